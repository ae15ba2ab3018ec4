"""Where a run leaves what it made: ``outputs/<verb>/<date>/<time>_<name>/`` with its resolved config.

``config.json`` holds the whole config, so that ``vla <verb> --config …/config.json`` runs the same again.
"""

import json
import os
import re
from datetime import datetime
from pathlib import Path
from typing import Any, TypeVar

from configs.machine import describe_run
from configs.serialization import from_json, to_json
from vla.durable import write_text_atomically
from vla.strict_json import finite, strict_json

T = TypeVar("T")
CONFIG_FILE = "config.json"
MACHINE_FILE = "machine.json"
OUTPUTS = Path("outputs")


def create_run_directory(verb: str, name: str, config: Any, outputs: Path = OUTPUTS) -> Path:
    """Make a new, empty run directory and save ``config`` and the machine's description in it.

    Two runs that start in the same second get different directories. ``name`` is reduced to letters,
    digits, dots, underscores and hyphens. The config comes last: a directory that has it is whole.
    """
    now, machine = datetime.now(), describe_run()
    slug = re.sub(r"[^A-Za-z0-9._-]+", "-", name).strip("-.") or verb
    day = outputs / verb / now.strftime("%Y-%m-%d")
    day.mkdir(parents=True, exist_ok=True)
    stem = f"{now.strftime('%H-%M-%S')}_{slug}"
    for attempt in range(1000):
        directory = day / (stem if attempt == 0 else f"{stem}-{attempt}")
        try:
            directory.mkdir()
        except FileExistsError:
            continue
        write_json(machine, directory / MACHINE_FILE)
        save_config(config, directory / CONFIG_FILE)
        return directory
    raise FileExistsError(f"no free run directory for {day / stem}")


def save_config(config: Any, path: Path) -> None:
    """Write the resolved config as JSON, atomically; ``ValueError`` for numbers that JSON does not have."""
    data = to_json(config)
    strict_json(data)
    write_json(data, path)


def load_config(expected: type[T], path: Path) -> T:
    """Read a config back from a ``config.json`` or from the run directory that holds one.

    ``FileNotFoundError`` if there is none; ``ValueError`` names the field that does not fit ``expected``.
    """
    file = path / CONFIG_FILE if path.is_dir() else path
    if not file.is_file():
        barely_begun = path.is_dir() and all(name.startswith((CONFIG_FILE, MACHINE_FILE)) for name in os.listdir(path))
        hint = " (a run that was stopped as it began has nothing to go on from: start it anew)" if barely_begun else ""
        raise FileNotFoundError(f"no run config at {file}; give a run directory or its {CONFIG_FILE}{hint}")
    try:
        data = json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file} is not JSON: {error}") from error
    return from_json(expected, data, where=str(file))


def write_json(data: Any, path: Path) -> None:
    """Write ``data`` so that a reader sees the old file or the new one, never a part.

    JSON has no NaN and no infinity: null stands for them.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text_atomically(path, strict_json(finite(data), indent=2) + "\n")
