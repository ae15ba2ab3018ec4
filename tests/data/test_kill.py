"""Kill -9 of a recorder loses at most the open episode, and recording goes on afterwards."""

import os
import random
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from policies.data.dataset import DemonstrationDataset
from policies.data.writer import DemonstrationWriter

RECORDER = Path(__file__).with_name("record_until_killed.py")
ROOT = Path(__file__).parents[2]


def record_and_kill(path, delay_s):
    """Run a recorder, kill it ``delay_s`` after it opened the store; returns how many commits it reported."""
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, RECORDER, path], stdout=subprocess.PIPE, text=True, env=environment)
    opened = process.stdout.readline().split()
    assert opened[0] == "opened"
    time.sleep(delay_s)
    process.send_signal(signal.SIGKILL)
    reported = [line for line in process.stdout.read().splitlines() if line.startswith("committed")]
    assert process.wait() == -signal.SIGKILL
    return int(opened[1]) + len(reported)


def kill_again_and_again(path, times):
    moments = random.Random(times)
    embodiment = make_embodiment()
    for _ in range(times):
        reported = record_and_kill(path, moments.uniform(0.0, 0.4))
        dataset = DemonstrationDataset(path)
        assert len(dataset) in (reported, reported + 1)  # a commit may be killed before it is reported
        for newest in range(len(dataset))[-1:]:
            assert_same_episode(dataset.episode(newest), make_episode(newest, embodiment))
    for index in range(len(dataset)):
        assert_same_episode(dataset.episode(index), make_episode(index, embodiment))
    with DemonstrationWriter.open(path) as writer:
        index = writer.append(make_episode(len(writer), embodiment))
    assert_same_episode(DemonstrationDataset(path).episode(index), make_episode(index, embodiment))
    assert not [file for file in path.rglob("*") if file.suffix in (".tmp", ".partial")]


def test_four_kills(tmp_path):
    kill_again_and_again(tmp_path / "store", times=4)


@pytest.mark.slow
def test_twenty_kills(tmp_path):
    kill_again_and_again(tmp_path / "store", times=20)


class KilledError(BaseException):
    """Stands for the death of the process: nothing in the writer may catch it."""


@pytest.mark.parametrize("at_sync", range(0, 28, 3))
def test_death_at_each_sync(tmp_path, monkeypatch, at_sync):
    """Whatever an append had written when it died, the store opens with what was committed and goes on."""
    embodiment = make_embodiment()
    path = tmp_path / "store"
    writer = DemonstrationWriter.create(path, embodiment)
    writer.append(make_episode(0, embodiment))
    synced = 0

    def die_in_time(_):
        nonlocal synced
        if synced == at_sync:
            raise KilledError
        synced += 1

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "fsync", die_in_time)
        while True:
            writer.append(make_episode(1, embodiment, length=70))
    writer._lock.close()  # the kernel would; the arrays stay as they are
    committed = len(DemonstrationDataset(path))
    assert committed in (1, 2)
    with DemonstrationWriter.open(path) as reopened:
        assert len(reopened) == committed
        reopened.append(make_episode(committed, embodiment, length=5))
    dataset = DemonstrationDataset(path)
    dataset.verify()
    assert_same_episode(dataset.episode(0), make_episode(0, embodiment))
    assert_same_episode(dataset.episode(committed), make_episode(committed, embodiment, length=5))
