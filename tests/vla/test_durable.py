"""Files that are whole or absent, and errors that name them and say what to do."""

import errno
import os
import resource
import subprocess
import sys

import pytest

from vla.durable import clear_asides, naming, write_atomically, write_text_atomically, written_aside


def test_a_write_that_fails_leaves_the_old_file_and_nothing_else(tmp_path):
    path = tmp_path / "file"
    write_text_atomically(path, "größer")
    with pytest.raises(RuntimeError, match="struck"), written_aside(path) as aside:
        aside.write_text("half")
        raise RuntimeError("struck by lightning")
    assert path.read_text(encoding="utf-8") == "größer" and list(tmp_path.iterdir()) == [path]


def test_what_a_killed_write_left_goes_and_nothing_else(tmp_path):
    for name in ("metrics.jsonl.4711.tmp", "notes.tmp", "config.json"):
        (tmp_path / name).touch()
    clear_asides(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "notes.tmp"]


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_with_what_to_do(tmp_path, monkeypatch, code):
    def full(_):
        raise OSError(code, os.strerror(code))  # as write(2) says it: without a name

    write_atomically(tmp_path / "file", b"old")
    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"\(make room and run it again\): '.*/file'") as raised:
        write_atomically(tmp_path / "file", b"new")
    assert raised.value.errno == code and (tmp_path / "file").read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["file"]


def test_an_error_that_names_a_file_keeps_its_name_and_kind(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"'.*other'"), naming(tmp_path / "file"):
        (tmp_path / "other").read_text()
    with pytest.raises(PermissionError, match=r"you may write, or change its permissions\): '/x'"), naming(tmp_path):
        raise PermissionError(errno.EACCES, "Permission denied", "/x")


def test_a_limit_on_the_size_of_files_is_an_error_and_not_half_a_file(tmp_path):
    code = "import sys, pathlib, vla.durable as d; d.write_atomically(pathlib.Path(sys.argv[1]), bytes(5000))"

    def limit():
        resource.setrlimit(resource.RLIMIT_FSIZE, (4096, 4096))

    ran = subprocess.run(
        [sys.executable, "-c", code, tmp_path / "file"], preexec_fn=limit, capture_output=True, text=True
    )
    assert ran.returncode == 1 and "ulimit -f" in ran.stderr and f"{tmp_path}/file" in ran.stderr
    assert not list(tmp_path.iterdir())


def test_it_costs_no_heavy_import():
    code = "import sys, vla.durable; print(sorted({'torch', 'numpy', 'safetensors'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True).stdout == "[]\n"
