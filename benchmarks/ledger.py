"""The ledger: every measured cell is one small JSON file, and the tables of the documentation are printed from them.

A :class:`Cell` is one method, trained once, and what became of every episode it was evaluated on. The command that
measures a cell writes its file, so a grid that was stopped goes on where it stood. A cell remembers a digest of the
code it was measured with; a later change of that code (comments and docstrings apart) marks it as *older*.
"""

import ast
import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from typing import Any

from report import machine, versions

from configs.machine import CHECKOUT
from policies.intervals import Interval, wilson
from vla.durable import write_text_atomically
from vla.strict_json import strict_json

LEDGER = CHECKOUT / "benchmarks" / "ledger"
MEASURED = (
    "benchmarks/claim_methods.py",
    "benchmarks/claim_parts.py",
    "benchmarks/claim_space_time.py",
    "benchmarks/measuring.py",
    "configs/*.py",
    "configs/commands/collect.py",
    "configs/commands/eval.py",
    "configs/commands/pretrain.py",
    "configs/commands/rl.py",
    "configs/commands/train.py",
    "envs/**/*",
    "policies/*.py",
    "policies/data/*",
    "policies/imitation/**/*",
    "policies/pretraining/*",
    "policies/training/*",
    "rl/**/*",
    "vla/**/*",
)
"""What a measurement depends on: neither serving nor reports."""


@dataclass(frozen=True, kw_only=True, order=True)
class Key:
    """Which cell: a claim's method, in plain words, at one budget with one training seed.

    ``demonstrations`` counts those per task.
    """

    claim: str
    method: str
    demonstrations: int
    steps: int
    seed: int

    @property
    def path(self) -> str:
        """The cell's file, relative to the ledger."""
        method = re.sub(r"[^A-Za-z0-9]+", "-", self.method)
        return f"{self.claim}/{method}-{self.demonstrations}x{self.steps}-seed{self.seed}.json"

    @property
    def budget(self) -> tuple[int, int]:
        """Demonstrations per task, and steps."""
        return self.demonstrations, self.steps


@dataclass(frozen=True, kw_only=True)
class Outcomes:
    """What became of the episodes of one task under one condition, one per seed of ``first_seed`` onwards.

    ``won`` is one character per episode, 1 for success. ``obedient`` is the share that a perfectly obedient policy
    would win where instructions are other episodes', None where they are the episodes' own.
    """

    condition: str
    task: str
    first_seed: int
    won: str
    obedient: float | None = None

    @property
    def group(self) -> str:
        """The suite of a task that belongs to one, else the task."""
        return self.task.partition("/")[0]

    @classmethod
    def of(
        cls, condition: str, task: str, seeds: Sequence[int], won: Iterable[bool], obedient: float | None = None
    ) -> "Outcomes":
        """``ValueError`` unless the seeds are consecutive and as many as the outcomes."""
        line = "".join("1" if each else "0" for each in won)
        if list(seeds) != list(range(seeds[0], seeds[0] + len(line))):
            raise ValueError(f"expected one outcome for each of consecutive seeds, got {len(line)} for seeds {seeds}")
        return cls(condition=condition, task=task, first_seed=seeds[0], won=line, obedient=obedient)


@dataclass(frozen=True, kw_only=True)
class Cell:
    """What was measured. ``figures`` are other numbers by name, such as seconds and losses.

    ``base`` is what its network had learned before, if anything: name and sha256, and of one that was pre-trained for
    the claim its steps, and the seconds of the process that finished it.
    """

    key: Key
    outcomes: tuple[Outcomes, ...]
    figures: Mapping[str, float] = field(default_factory=dict)
    base: Mapping[str, Any] | None = None
    code: str = field(default_factory=lambda: code_digest())
    date: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    machine: Mapping[str, Any] = field(default_factory=machine)
    versions: Mapping[str, str] = field(default_factory=versions)

    @property
    def older(self) -> bool:
        """Whether code that matters has changed since."""
        return self.code != code_digest()

    def won(self, condition: str, group: str | None = None) -> list[bool]:
        """Success of every episode under ``condition``, tasks and seeds in order; of a task or suite, or of all."""
        chosen = [o for o in self.outcomes if o.condition == condition and group in (None, o.task, o.group)]
        return [character == "1" for outcome in chosen for character in outcome.won]

    def write(self, ledger: Path = LEDGER) -> None:
        """Write the cell's file, replacing an older measurement."""
        path = ledger / self.key.path
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(path, strict_json(asdict(self), indent=1) + "\n")

    @classmethod
    def read(cls, path: Path) -> "Cell":
        """``ValueError`` where the file is no cell."""
        try:
            content = json.loads(path.read_text(encoding="utf-8"))
            outcomes = tuple(Outcomes(**outcome) for outcome in content["outcomes"])
            return cls(**content | {"key": Key(**content["key"]), "outcomes": outcomes})
        except (KeyError, TypeError, json.JSONDecodeError) as error:
            raise ValueError(f"expected a cell of the ledger at {path}: {error!r}") from error


def cells(claim: str, ledger: Path = LEDGER) -> list[Cell]:
    """All cells of a claim, in the order of their keys."""
    return sorted((Cell.read(path) for path in (ledger / claim).glob("*.json")), key=lambda cell: cell.key)


def missing(grid: Iterable[Key], *, again: bool = False, ledger: Path = LEDGER) -> list[Key]:
    """The keys of ``grid`` without a cell; with ``again`` also those whose cell is older than the code."""

    def wanted(key: Key) -> bool:
        path = ledger / key.path
        return not path.is_file() or (again and Cell.read(path).older)

    return [key for key in grid if wanted(key)]


def pooled(found: Iterable[Cell], condition: str, group: str | None = None) -> tuple[Interval, int]:
    """Success over all episodes of several cells, and how many they are; ``ValueError`` where there are none."""
    won = [outcome for cell in found for outcome in cell.won(condition, group)]
    if not won:
        raise ValueError(f"no episodes of {group or 'any task'} under {condition!r}")
    return wilson(sum(won), len(won)), len(won)


@cache
def code_digest() -> str:
    """A digest of what the code does: syntax trees without docstrings, and data files."""
    digest = hashlib.sha256()
    for path in _sources():
        content = _program(path.read_text(encoding="utf-8")) if path.suffix == ".py" else path.read_bytes()
        digest.update(str(path.relative_to(CHECKOUT)).encode() + b"\0" + content + b"\0")
    return digest.hexdigest()[:16]


def _sources() -> Iterator[Path]:
    for pattern in MEASURED:
        for path in sorted(CHECKOUT.glob(pattern)):
            if path.is_file() and "__pycache__" not in path.parts:
                yield path


def _program(source: str) -> bytes:
    """The syntax tree without docstrings; comments and layout are not in it anyway."""
    tree = ast.parse(source)
    for node in ast.walk(tree):
        body = getattr(node, "body", None)
        if isinstance(body, list):
            node.body = [line for line in body if not _is_docstring(line)]  # type: ignore[attr-defined]
    return ast.dump(tree).encode()


def _is_docstring(line: ast.stmt) -> bool:
    return isinstance(line, ast.Expr) and isinstance(line.value, ast.Constant) and isinstance(line.value.value, str)
