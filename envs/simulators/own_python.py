"""Suites that run in a Python of their own: where that is, and what is installed in it."""

import os
import sys
from collections.abc import Iterable
from importlib.metadata import distributions
from pathlib import Path


def suite_folder(variable: str, name: str) -> Path:
    """The folder of a suite's environment: ``variable`` may name it by its Python, or else it is where suites go."""
    named = os.environ.get(variable)
    if named:
        return Path(named).expanduser().absolute().parent.parent
    return Path.home() / ".cache" / "vla-stack" / "suites" / name


def python_of(folder: Path) -> Path:
    """The Python of an environment."""
    return folder / "bin" / "python"


def versions_in(folder: Path, names: Iterable[str]) -> dict[str, str]:
    """Versions of these packages in the environment at ``folder``; those that it lacks are left out."""
    places = [str(path) for path in folder.glob("lib/python3*/site-packages")]
    found = {each.metadata["Name"].lower().replace("_", "-"): each.version for each in distributions(path=places)}
    return {name: found[name] for name in names if name in found}


def usable_cores() -> int:
    """Cores this process may run on."""
    return len(os.sched_getaffinity(0)) if sys.platform.startswith("linux") else os.cpu_count() or 1
