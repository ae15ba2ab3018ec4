"""Full disks, folders that cannot be written, recorders in each other's way: an error that names them, nothing lost."""

import errno
import fcntl
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from synthetic_demonstrations import assert_same_episode, make_embodiment, make_episode

from policies.data.dataset import STATISTICS_FILE, DemonstrationDataset
from policies.data.layout import DatasetError
from policies.data.writer import LOCK_FILE, DemonstrationWriter

EMBODIMENT = make_embodiment()
ROOT = Path(__file__).parents[2]


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 1.5 MB of its own; skipped where none may be mounted."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1500k", "tmpfs", place], capture_output=True)
    if mounted.returncode:
        pytest.skip("needs the right to mount a file system")
    yield place
    subprocess.run(["umount", "-l", place], check=True)


def holds(path, count):
    dataset = DemonstrationDataset(path)
    dataset.verify()
    assert len(dataset) == count
    for number in range(count):
        assert_same_episode(dataset.episode(number), make_episode(number, EMBODIMENT))


def record_until(path, error, most=200):
    """Append until ``error``; how many episodes were committed before."""
    with DemonstrationWriter.create(path, EMBODIMENT) as writer, pytest.raises(OSError) as raised:
        for number in range(most):
            writer.append(make_episode(number, EMBODIMENT))
    assert raised.value.errno == error
    return len(writer), str(raised.value)


def test_a_full_disk_costs_the_open_episode_alone(small_disk):
    path = small_disk / "store"
    count, message = record_until(path, errno.ENOSPC)
    assert count > 2 and "make room and run it again" in message and f"'{path}" in message
    holds(path, count)
    assert not [file for file in path.rglob("*") if file.suffix in (".tmp", ".partial")]


def test_after_room_is_made_the_recording_goes_on(small_disk):
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(700_000))
    count, _ = record_until(small_disk / "store", errno.ENOSPC)
    ballast.unlink()
    with DemonstrationWriter.open(small_disk / "store") as writer:
        assert writer.append(make_episode(count, EMBODIMENT)) == count
    holds(small_disk / "store", count + 1)


def test_on_a_full_disk_the_writer_itself_can_go_on_and_nothing_can_be_created(small_disk):
    ballast = small_disk / "ballast"
    with DemonstrationWriter.create(small_disk / "store", EMBODIMENT) as writer:
        writer.append(make_episode(0, EMBODIMENT))
        room = os.statvfs(small_disk)
        ballast.write_bytes(bytes(room.f_bavail * room.f_frsize))
        with pytest.raises(OSError, match="make room"):
            writer.append(make_episode(1, EMBODIMENT))
        with pytest.raises(OSError, match=r"make room and run it again\): '.*/other"):
            DemonstrationWriter.create(small_disk / "other", EMBODIMENT)
        assert DemonstrationDataset(small_disk / "store").statistics().episodes == 1
        assert not (small_disk / "store" / STATISTICS_FILE).exists()
        ballast.unlink()
        writer.append(make_episode(1, EMBODIMENT))
    holds(small_disk / "store", 2)
    assert sorted(entry.name for entry in small_disk.iterdir()) == ["store"]


def test_a_read_only_store_is_read_and_not_written(small_disk, caplog):
    path = small_disk / "store"
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        writer.append(make_episode(0, EMBODIMENT))
    subprocess.run(["mount", "-o", "remount,ro", small_disk], check=True)
    holds(path, 1)
    assert DemonstrationDataset(path).statistics().episodes == 1 and "not kept" in caplog.text
    says = r"Read-only file system \(choose a folder that can be written\): '"
    with pytest.raises(OSError, match=says):
        DemonstrationWriter.open(path)
    with pytest.raises(OSError, match=says):
        DemonstrationWriter.create(small_disk / "other", EMBODIMENT)


def test_a_limit_on_the_size_of_files(tmp_path):
    path, embodiment = tmp_path / "store", make_embodiment(size_px=64)
    DemonstrationWriter.create(path, embodiment).close()
    code = (
        "import sys; sys.path.insert(0, sys.argv[2]); from synthetic_demonstrations import *; "
        "from policies.data.writer import DemonstrationWriter as W; w = W.open(sys.argv[1]); e = make_embodiment(64)\n"
        "w.append(make_episode(0, e, 2))\nw.append(make_episode(1, e, 60))"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, path, Path(__file__).parent],
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (200_000, 200_000)),
        capture_output=True,
        text=True,
        env=os.environ | {"PYTHONPATH": str(ROOT)},
    )
    assert ran.returncode == 1 and "File too large (raise the limit" in ran.stderr and f"'{path}/" in ran.stderr
    (episode,) = [DemonstrationDataset(path).episode(0)]
    assert_same_episode(episode, make_episode(0, embodiment, 2))


def test_of_two_who_create_one_store_at_once_one_does(tmp_path, monkeypatch):
    """The second comes between the first one's look at the folder and its rename."""
    path, rename, firsts = tmp_path / "store", Path.rename, []

    def overtaken(self, target):
        if not firsts:
            firsts.append(None)
            firsts.append(DemonstrationWriter.create(path, EMBODIMENT))
            firsts[1].append(make_episode(0, EMBODIMENT))
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", overtaken)
    with pytest.raises(FileExistsError, match=f"{path} exists: open it to append to it"):
        DemonstrationWriter.create(path, EMBODIMENT)
    with pytest.raises(DatasetError, match="being written by process"):
        DemonstrationWriter.open(path)
    firsts[1].append(make_episode(1, EMBODIMENT))
    firsts[1].close()
    holds(path, 2)
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_new_store_is_its_makers_from_the_first_moment(tmp_path, monkeypatch):
    path, rename, seen = tmp_path / "store", Path.rename, []

    def watched(self, target):
        renamed = rename(self, target)
        with pytest.raises(DatasetError, match="being written by process"):
            DemonstrationWriter.open(path)
        seen.append(target)
        return renamed

    monkeypatch.setattr(Path, "rename", watched)
    with DemonstrationWriter.create(path, EMBODIMENT) as writer:
        writer.append(make_episode(0, EMBODIMENT))
    assert seen == [path]


def test_the_lock_dies_with_its_process_whoever_it_forked(tmp_path):
    path = tmp_path / "store"
    DemonstrationWriter.create(path, EMBODIMENT).close()
    code = (
        "import os, sys, time; from policies.data.writer import DemonstrationWriter as W; w = W.open(sys.argv[1]); "
        "os.fork() or print(os.getpid(), flush=True); time.sleep(60)"
    )
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True, env=environment)
    child = int(process.stdout.readline())
    with pytest.raises(DatasetError, match=f"being written by process {process.pid}"):
        DemonstrationWriter.open(path)
    process.send_signal(signal.SIGKILL)
    process.wait()
    try:
        os.kill(child, 0)  # lives on
        DemonstrationWriter.open(path).close()
    finally:
        os.kill(child, signal.SIGKILL)
        process.stdout.close()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP, errno.EIO])
def test_a_disk_without_locks_is_named_with_what_to_do(tmp_path, monkeypatch, number):
    path = tmp_path / "store"
    DemonstrationWriter.create(path, EMBODIMENT).close()

    def refuse(file, how):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    for make, store in ((DemonstrationWriter.open, path), (lambda p: DemonstrationWriter.create(p, EMBODIMENT), "new")):
        with pytest.raises(OSError, match=r"cannot lock files: .* \(record into a folder on a disk of") as raised:
            make(tmp_path / store)
        assert (raised.value.errno, raised.value.filename) == (number, str(tmp_path / store / LOCK_FILE))
    assert [entry.name for entry in tmp_path.iterdir()] == ["store"]


def test_a_side_file_that_is_no_file_is_named(tmp_path):
    path = tmp_path / "store"
    DemonstrationWriter.create(path, EMBODIMENT).close()
    (path / LOCK_FILE).unlink()
    (path / LOCK_FILE).mkdir()
    with pytest.raises(IsADirectoryError, match=LOCK_FILE):
        DemonstrationWriter.open(path)
    (path / "removed.json").mkdir()
    with pytest.raises(DatasetError, match=r"removed\.json cannot be read: .*Is a directory"):
        DemonstrationDataset(path)
