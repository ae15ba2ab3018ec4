"""Writes that are whole or absent, whatever kills the process or the machine in between; no torch, no numpy."""

import errno
import fcntl
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any
from weakref import WeakSet

_REMEDIES = {
    errno.ENOSPC: "make room and run it again",
    errno.EDQUOT: "make room and run it again",
    errno.EFBIG: "raise the limit on the size of files (ulimit -f) and run it again",
    errno.EROFS: "choose a folder that can be written",
    errno.EACCES: "choose a folder that you may write, or change its permissions",
    errno.EPERM: "choose a folder that you may write, or change its permissions",
}


@contextmanager
def naming(path: Path) -> Iterator[None]:
    """Any ``OSError`` inside names ``path``, unless it names a file itself, and says what to do about it."""
    try:
        yield
    except OSError as error:
        if error.errno is None:
            raise
        text = error.strerror or os.strerror(error.errno)
        remedy = _REMEDIES.get(error.errno)
        if remedy and remedy not in text:
            text = f"{text} ({remedy})"
        raise OSError(error.errno, text, str(error.filename or path)) from error


def fsync_path(path: Path) -> None:
    """Wait until a file's bytes, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextmanager
def new_folder(path: Path) -> Iterator[Path]:
    """A folder to make in place of ``path``, renamed to it at the end: it is there whole or not at all.

    What is yielded does not exist yet, and the body makes it, and has its files on the disk. ``FileExistsError`` if
    ``path`` exists. An error removes what was made, a kill may leave a hidden folder beside ``path`` behind.
    """
    if path.exists():
        raise FileExistsError(f"{path} exists: choose another folder, or delete it")
    with naming(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent) as aside:
            made = Path(aside) / path.name
            yield made
            made.rename(path)
        fsync_path(path.parent)


@contextmanager
def written_aside(path: Path) -> Iterator[Path]:
    """A file to write in place of ``path``, renamed to it at the end: readers see the old file or the whole new one.

    It is ``path`` with the process id and ``.tmp`` appended, so that two processes may write the same file. An error
    removes it, and an ``OSError`` names ``path``; a kill may leave it behind, for :func:`clear_asides`.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with naming(path):
        try:
            yield aside
            fsync_path(aside)
        except BaseException:
            if aside.is_file():
                aside.unlink()
            raise
        os.replace(aside, path)
        fsync_path(path.parent)


def clear_asides(folder: Path) -> None:
    """Remove what killed processes left of :func:`written_aside` in ``folder``; for who alone writes there."""
    for aside in folder.glob("*.tmp"):
        if aside.suffixes[-2:-1] and aside.suffixes[-2][1:].isdigit():
            aside.unlink(missing_ok=True)


def write_atomically(path: Path, data: bytes) -> None:
    """Write ``data`` to ``path``, whole or not at all."""
    with written_aside(path) as aside:
        aside.write_bytes(data)


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` to ``path`` as UTF-8, whole or not at all."""
    write_atomically(path, text.encode("utf-8"))


def lock_file(file: IO[Any], remedy: str) -> None:
    """Let no other process lock an open file until it is closed or this process ends; none forked from it keeps it.

    ``BlockingIOError`` where another one has; ``OSError`` with ``remedy`` where the disk cannot lock files.
    """
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        raise
    except OSError as error:
        raise OSError(error.errno, f"the disk cannot lock files: {error.strerror} ({remedy})", file.name) from error
    _locked.add(file)


_locked: WeakSet[IO[Any]] = WeakSet()


def _forget_locked() -> None:
    """A forked child closes its copies, or a lock would outlive the process that took it."""
    for file in list(_locked):
        file.close()


os.register_at_fork(after_in_child=_forget_locked)
