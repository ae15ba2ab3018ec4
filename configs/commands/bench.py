"""Run a benchmark of the checkout, benchmarks/NAME.py, and print its table."""

import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from configs.cli import take_flag, unknown_choice
from configs.machine import CHECKOUT, check_output_file

BENCHMARKS = CHECKOUT / "benchmarks"
NOT_BENCHMARKS = (
    *("report", "peers", "ledger", "claim_methods", "claim_parts", "claim_ranges", "claim_rows", "claim_sequences"),
    *("claim_space_time", "claim_tables", "measuring"),
    *("model_peers", "model_shapes", "serve_load", "pendulum", "lerobot_reading", "libero_in_process"),
    *("__init__", "conftest"),
)
FILES = {"rl": "learning", "policy-card": "policy_card"}
"""Benchmarks whose files are called otherwise: a script's folder comes first on the path, so rl.py would hide rl."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which benchmark, and where its figures go."""

    name: Annotated[str, tyro.conf.Positional]
    """The benchmark; an unknown name lists those there are."""
    json: Path | None = None
    """Also write the figures, with machine, versions and seeds, to this file."""
    options: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """The benchmark's own options; vla bench NAME --help lists them."""


def arguments(args: Sequence[str]) -> list[str]:
    """``vla bench NAME --its-option 3`` as ``NAME -- --its-option 3``: all but --json belongs to the benchmark."""
    json, rest = take_flag("--json", args)
    ours = [] if json is None else ["--json", json]
    if not rest or rest[0].startswith("-"):
        return [*rest, *ours]
    name, *options = rest
    if "--" in options:
        options.remove("--")
    return [name, *ours, *(["--", *options] if options else [])]


def available(folder: Path = BENCHMARKS) -> list[str]:
    """Names of the benchmarks in the checkout; none where the package is installed without it."""
    called = {file: name for name, file in FILES.items()}
    return sorted(called.get(path.stem, path.stem) for path in folder.glob("*.py") if path.stem not in NOT_BENCHMARKS)


def file_of(name: str) -> Path:
    """The script of a benchmark."""
    return BENCHMARKS / f"{FILES.get(name, name)}.py"


def run(config: Config) -> int:
    """The benchmark's own exit status; ``ValueError`` lists the names there are."""
    names = available()
    if not names:
        raise FileNotFoundError(f"no benchmarks at {BENCHMARKS}: vla bench runs from a checkout of the project")
    if config.name not in names:
        raise ValueError(unknown_choice("benchmark", config.name, names))
    command = [sys.executable, str(file_of(config.name)), *config.options]
    if config.json is not None:
        check_output_file(config.json)
        command += ["--json", str(config.json)]
    encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
    return subprocess.run(command, check=False, env=os.environ | {"PYTHONIOENCODING": f"{encoding}:replace"}).returncode
