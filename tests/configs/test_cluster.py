"""Ray: workers that are lost, and commands whose parts run on them to the same results."""

import os
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest
from test_eval_resume import episodes_of, evaluated, results_of

from configs.cli import main
from configs.cluster import TRIES, ClusterConfig, WorkersLostError, spreading
from policies.data.dataset import DemonstrationDataset

TWO = ["--cluster.workers", "2"]
SMALL = ["--env.image-size-px", "16", "--env.threads", "1", "--env.render-limit-s", "300"]


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"workers": -1}, "must not be negative, got -1"),
        ({"address": "10.0.0.1:6379"}, "how many parts run at once at 10.0.0.1:6379"),
        ({"address": "auto", "workers": 1}, "is HOST:PORT of Ray's head"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, said):
    with pytest.raises(ValueError, match=said):
        ClusterConfig(**settings)


def test_without_workers_parts_are_done_here_and_without_ray_it_says_what_to_install(monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with spreading(ClusterConfig()) as spread:
        assert list(spread(abs, [-1, 2])) == [1, 2]
    missing = pytest.raises(ModuleNotFoundError, match=r"pip install 'vla-stack\[ray\]'")
    with missing, spreading(ClusterConfig(workers=1)):
        pass


def addresses_listened_on():
    """Of all TCP sockets of this machine, by their inodes."""
    lines = [line.split() for path in ("tcp", "tcp6") for line in Path("/proc/net", path).read_text().splitlines()[1:]]
    return {line[9]: line[1].partition(":")[0] for line in lines if line[3] == "0A"}


def test_a_cluster_that_nobody_answers_for_is_refused_at_once_and_leaves_nothing(tmp_path, capsys):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    began = time.monotonic()
    given = ["eval", "expert", "--tasks", "reach", "--outputs", str(tmp_path), *TWO, "--cluster.address", address]
    assert main(given) == 2 and time.monotonic() - began < 30
    assert f"no Ray cluster answers at {address}" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow
def test_a_part_whose_worker_is_killed_is_done_by_another_until_it_is_too_often(tmp_path):
    def die_first(deaths: int) -> int:
        """Half of ``deaths``, from the worker that comes after so many that are killed."""
        died = len(list(tmp_path.glob(f"{deaths}-*")))
        if died < deaths:
            (tmp_path / f"{deaths}-{died}").touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return deaths // 2

    before = addresses_listened_on()
    with spreading(ClusterConfig(workers=2)) as spread:
        assert list(spread(die_first, [0, 2, 1])) == [0, 1, 0]
        ours = {address for inode, address in addresses_listened_on().items() if inode not in before}
        assert ours and all(address.endswith("0100007F") for address in ours)  # 127.0.0.1, also as seen by IPv6
        with pytest.raises(WorkersLostError, match=f"{TRIES} workers died"):
            list(spread(die_first, [TRIES]))
        with pytest.raises(ZeroDivisionError):
            list(spread(lambda part: 1 // part, [0]))


@pytest.mark.slow
def test_an_evaluation_on_workers_comes_to_the_same(tmp_path):
    given = ["expert", "--tasks", "reach", "push", "--episodes", "3", "--num-envs", "3", "--videos", "1", *SMALL]
    here, there = evaluated(tmp_path / "here", *given), evaluated(tmp_path / "there", *given, *TWO)
    assert episodes_of(here) == episodes_of(there) and results_of(here) == results_of(there)
    assert sorted(path.name for path in (here / "videos").iterdir()) == sorted(
        path.name for path in (there / "videos").iterdir()
    )


@pytest.mark.slow
def test_a_recording_on_workers_is_the_same_dataset(tmp_path):
    given = ["collect", "reach", "push", "--episodes", "5", "--num-envs", "2", *SMALL]
    stores = [tmp_path / name for name in ("here", "there")]
    assert main([*given, "--path", str(stores[0])]) == 0
    assert main([*given, "--path", str(stores[1]), *TWO]) == 0
    assert main([*given, "--path", str(stores[1])]) == 0  # whoever records goes on with it
    here, there = map(DemonstrationDataset, stores)
    assert here.fingerprint == there.fingerprint and here.records == there.records
    frames = np.arange(here.num_frames)
    assert all(np.array_equal(here.read(key, frames), there.read(key, frames)) for key in here.keys)
