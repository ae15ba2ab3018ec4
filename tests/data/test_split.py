"""Episodes are taken out, and stores split, wholly or not at all; what stays is what was recorded."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from envs.specs import ACTION_KEY
from policies.data.dataset import DemonstrationDataset
from policies.data.layout import REMOVED_FILE, DatasetError
from policies.data.left_out import LeftOut, tried_seeds
from policies.data.split import copy_part, deal, tasks_apart
from policies.data.writer import DemonstrationWriter

EMBODIMENT = make_embodiment()
ROOT = Path(__file__).parents[2]


def filled(path, count=6):
    with DemonstrationWriter.create(path, EMBODIMENT, settings={"noise": 1}) as writer:
        for index in range(count):
            writer.append(make_episode(index, EMBODIMENT))
    return path


def holds(path, numbers):
    dataset = DemonstrationDataset(path)
    dataset.verify()
    assert [record.seed - 1000 for record in dataset.records] == list(numbers)
    for place, number in enumerate(numbers):
        assert_same_episode(dataset.episode(place), make_episode(number, EMBODIMENT))
    expected = np.concatenate([make_episode(number, EMBODIMENT).actions for number in numbers])
    np.testing.assert_array_equal(dataset.load(ACTION_KEY), expected)
    return dataset


def chunk_bytes(dataset):
    return sum(file.stat().st_size for key in dataset.keys for file in (dataset.path / key).glob("c.*"))


def test_removed_episodes_are_gone_and_the_others_close_up(tmp_path):
    path = filled(tmp_path / "store")
    with DemonstrationWriter.open(path) as writer:
        writer.remove([1, 3])
        assert len(writer) == 4
        assert writer.append(make_episode(6, EMBODIMENT)) == 4
    dataset = holds(path, [0, 2, 4, 5, 6])
    assert dataset.info()["stored_bytes"] == chunk_bytes(dataset)
    with DemonstrationWriter.open(path) as writer:
        writer.remove([4, 0, 4])
        writer.append(make_episode(7, EMBODIMENT))
    assert holds(path, [2, 4, 5, 7]).info()["removed_episodes"] == 4
    assert tried_seeds(path) == {"pick": {1000, 1001, 1003, 1004, 1006, 1007}, "reach": {1002, 1005}}


def test_the_rest_is_a_store_as_if_recorded_alone(tmp_path):
    with DemonstrationWriter.open(filled(tmp_path / "store", 4)) as writer:
        writer.remove([0])
    with DemonstrationWriter.create(tmp_path / "alone", EMBODIMENT) as writer:
        for index in (1, 2, 3):
            writer.append(make_episode(index, EMBODIMENT))
    here, alone = (DemonstrationDataset(tmp_path / name) for name in ("store", "alone"))
    assert here.fingerprint == alone.fingerprint and here.statistics() == alone.statistics()


def test_all_may_go(tmp_path):
    path = filled(tmp_path / "store", 2)
    with DemonstrationWriter.open(path) as writer:
        writer.remove([0, 1])
        assert len(DemonstrationDataset(path)) == 0
        writer.append(make_episode(2, EMBODIMENT))
    holds(path, [2])


def test_what_cannot_be_removed(tmp_path):
    path = filled(tmp_path / "store", 2)
    with DemonstrationWriter.open(path) as writer:
        with pytest.raises(ValueError, match=r"has 2 episodes, numbered from 0, asked to remove \[1, 2\]"):
            writer.remove([2, 1])
        with pytest.raises(DatasetError, match="being written by process"):
            DemonstrationWriter.open(path)
    holds(path, [0, 1])
    for broken in ("{}", "[1", "[true]", "[7]"):
        (path / REMOVED_FILE).write_text(broken)
        with pytest.raises(DatasetError, match=r"removed\.json (is corrupt|cannot be read)"):
            DemonstrationDataset(path)


def test_a_reader_that_was_open_is_told_and_reads_no_zeros(tmp_path):
    path = filled(tmp_path / "store", 3)
    before = DemonstrationDataset(path)
    with DemonstrationWriter.open(path) as writer:
        writer.remove([1])
    assert_same_episode(before.episode(2), make_episode(2, EMBODIMENT))
    frame = np.array([len(make_episode(0, EMBODIMENT))])
    for read in (lambda: before.episode(1), lambda: before.load(ACTION_KEY), lambda: before.read(ACTION_KEY, frame)):
        with pytest.raises(DatasetError, match=r"c\.\d+\S* is gone since .* was opened"):
            read()


class KilledError(BaseException):
    """Stands for the death of the process."""


@pytest.mark.parametrize("after", range(0, 12, 2))
def test_a_death_while_removing_leaves_all_or_the_rest(tmp_path, monkeypatch, after):
    path = filled(tmp_path / "store")
    writer = DemonstrationWriter.open(path)
    done = 0

    def dying(function):
        def call(*args, **options):
            nonlocal done
            if done == after:
                raise KilledError
            done += 1
            return function(*args, **options)

        return call

    with monkeypatch.context() as patch, pytest.raises(KilledError):
        patch.setattr(os, "fsync", dying(os.fsync))
        patch.setattr(os, "replace", dying(os.replace))
        patch.setattr(Path, "unlink", dying(Path.unlink))
        writer.remove([1, 3])
    writer._lock.close()
    left = [0, 1, 2, 3, 4, 5] if len(DemonstrationDataset(path)) == 6 else [0, 2, 4, 5]
    holds(path, left)
    with DemonstrationWriter.open(path) as reopened:
        reopened.append(make_episode(6, EMBODIMENT))
    dataset = holds(path, [*left, 6])
    assert dataset.info()["stored_bytes"] == chunk_bytes(dataset)


def test_a_share_is_drawn_within_each_task(tmp_path):
    dataset = DemonstrationDataset(filled(tmp_path / "store", 15))
    first, rest = deal(dataset, 0.6, 0)
    assert sorted(first + rest) == list(range(15)) and (first, rest) == deal(dataset, 0.6, 0)
    assert sum(dataset.records[number].task == "reach" for number in first) == 3 and len(first) == 9
    assert deal(dataset, 0.6, 1)[0] != first
    for share, says in ((0.0, "between 0 and 1, got 0"), (1.5, "got 1.5"), (0.01, r"leave a part empty \(0 and 15")):
        with pytest.raises(ValueError, match=says):
            deal(dataset, share, 0)


def test_tasks_apart(tmp_path):
    dataset = DemonstrationDataset(filled(tmp_path / "store"))
    assert tasks_apart(dataset, ["reach"]) == ([2, 5], [0, 1, 3, 4])
    with pytest.raises(ValueError, match=r"no episodes of \['push'\]; its tasks are \['pick', 'reach'\]"):
        tasks_apart(dataset, ["push"])
    with pytest.raises(ValueError, match="leave a part empty"):
        tasks_apart(dataset, ["reach", "pick"])


def test_a_part_holds_its_episodes_and_knows_whose_the_other_seeds_are(tmp_path):
    path = filled(tmp_path / "store")
    LeftOut(failed={"pick": {5}}).write(path)
    with DemonstrationWriter.open(path) as writer:
        writer.remove([0])
    dataset = DemonstrationDataset(path)
    before = {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    copy_part(dataset, [1, 4], tmp_path / "parts" / "A")
    part = holds(tmp_path / "parts" / "A", [2, 5])
    assert part.settings == dataset.settings and tried_seeds(part.path) == tried_seeds(path)
    assert LeftOut.read(part.path) == LeftOut(failed={"pick": {5}}, elsewhere={"pick": {1000, 1001, 1003, 1004}})
    assert part.info()["left_out_seeds"]["elsewhere"] == {"pick": [1000, 1001, 1003, 1004]}
    assert before == {file: file.read_bytes() for file in path.rglob("*") if file.is_file()}
    with pytest.raises(FileExistsError, match="choose another folder"):
        copy_part(dataset, [0], tmp_path / "parts" / "A")
    assert [file.name for file in (tmp_path / "parts").iterdir()] == ["A"]


def test_a_split_killed_in_the_middle_leaves_the_source_and_no_part(tmp_path):
    path = filled(tmp_path / "store", 16)
    code = (
        "import sys, pathlib; from policies.data.dataset import DemonstrationDataset as D; "
        "from policies.data.split import copy_part; copy_part(D(sys.argv[1]), range(16), pathlib.Path(sys.argv[2]))"
    )
    arguments = [sys.executable, "-c", code, path, tmp_path / "A"]
    with subprocess.Popen(arguments, env=os.environ | {"PYTHONPATH": str(ROOT)}) as process:
        while not list(tmp_path.glob(".A.*/A/episodes/000003.json")):
            assert process.poll() is None
            time.sleep(0.005)
        process.send_signal(signal.SIGKILL)
    assert not (tmp_path / "A").exists()
    holds(path, range(16))
    copy_part(DemonstrationDataset(path), [3, 4], tmp_path / "A")
    holds(tmp_path / "A", [3, 4])


def test_a_damaged_episode_is_not_copied(tmp_path):
    path = filled(tmp_path / "store", 3)
    file = next((path / "observation.images.front").glob("c.1.*"))
    data = bytearray(file.read_bytes())
    data[len(data) // 2] ^= 1
    file.write_bytes(data)
    with pytest.raises(DatasetError, match="is corrupt: cannot decode"):
        copy_part(DemonstrationDataset(path), [0, 1], tmp_path / "A")
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]
