"""Writes that are whole or absent, whatever kills the process or the machine in between."""

import os
from pathlib import Path


def fsync_path(path: Path) -> None:
    """Wait until a file's bytes, or a directory's entries, are on the disk."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_text_atomically(path: Path, text: str) -> None:
    """Write ``text`` aside, then rename it to ``path``: readers see the old file or the whole new one.

    The file written aside is ``path`` with the process id and ``.tmp`` appended, so that two processes
    may write the same file; a kill may leave it behind.
    """
    aside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    with aside.open("w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(aside, path)
    fsync_path(path.parent)
