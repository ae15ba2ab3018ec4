"""What became of the episodes of an evaluation, one line each as they end, so that one that was killed can go on."""

import json
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Self

import numpy as np
from jaxtyping import UInt8

from policies.conditions import Condition
from vla.durable import fsync_path, lock_file, naming
from vla.strict_json import strict_json

if TYPE_CHECKING:
    from policies.agreement import Said

EPISODES_FILE = "episodes.jsonl"


@dataclass(frozen=True, kw_only=True)
class EpisodeResult:
    """What became of one episode. ``instruction`` is what the policy read, ``goal`` the episode's own, by which it was
    judged; ``same_goal`` says whether the two mean the same, in whatever words. ``instruction_means`` and
    ``goal_means`` are both in words that do not depend on phrasings; None in records that are older than these.

    ``stages_done`` of ``stages`` is how far a task of several stages got; most tasks have one.
    """

    task: str
    seed: int
    instruction: str
    goal: str
    same_goal: bool
    success: bool
    steps: int
    reward: float
    stages_done: int
    stages: int
    instruction_means: str | None = None
    goal_means: str | None = None


@dataclass(frozen=True, kw_only=True)
class EpisodeVideo:
    """One frame per decision of the policy, the first and the last picture included."""

    episode: EpisodeResult
    frames: UInt8[np.ndarray, "t h w 3"]
    seconds_per_frame: float


@dataclass(frozen=True, kw_only=True)
class FinishedEpisode:
    """An episode's result and what else an evaluation makes something of.

    ``wall_s`` are the seconds from its beginning to its end, in which others ran beside it. ``remarks`` is what the
    policy could not take in of the instruction, ``said`` what it said. ``film`` is there where it was filmed just now.
    """

    result: EpisodeResult
    wall_s: float
    remarks: tuple[str, ...] = ()
    said: "tuple[Said, ...]" = ()
    film: EpisodeVideo | None = field(default=None, repr=False)


@dataclass(frozen=True, kw_only=True)
class EpisodeRecord:
    """One line of the file. ``video`` is the path of its film, relative to the file, where there is one."""

    condition: Condition
    episode: FinishedEpisode
    video: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """JSON-ready; :meth:`from_dict` is its inverse, but for the frames of a film."""
        result, suite = self.episode.result, self.condition.task.rpartition("/")[0]
        drawn = {} if result.task == self.condition.task else {"drawn_task": result.task}
        spoken = {"said": [_to_json(each) for each in self.episode.said]} if self.episode.said else {}
        return {
            "suite": suite or None,
            "task": self.condition.task,
            "perturbation": self.condition.perturbation,
            "instructions": self.condition.instructions,
            "without": list(self.condition.without),
            "seed": result.seed,
            "success": result.success,
            "steps": result.steps,
            "stage": result.stages_done,
            "stages": result.stages,
            "wall_s": self.episode.wall_s,
            "video": self.video,
            "reward": result.reward,
            "instruction": result.instruction,
            "goal": result.goal,
            "same_goal": result.same_goal,
            "instruction_means": result.instruction_means,
            "goal_means": result.goal_means,
            "remarks": list(self.episode.remarks),
            **drawn,
            **spoken,
        }

    @classmethod
    def from_dict(cls, line: dict[str, Any]) -> Self:
        """``KeyError`` or ``TypeError`` where ``line`` is no such record."""
        same = ("seed", "instruction", "goal", "same_goal", "success", "steps", "reward", "stages")
        task = line.get("drawn_task", line["task"])
        result = EpisodeResult(
            **{name: line[name] for name in same},
            task=task,
            stages_done=line["stage"],
            instruction_means=line.get("instruction_means"),
            goal_means=line.get("goal_means"),
        )
        condition = Condition(
            task=line["task"],
            perturbation=line["perturbation"],
            instructions=line["instructions"],
            without=tuple(line["without"]),
        )
        said = tuple(map(_from_json, line.get("said", ())))
        episode = FinishedEpisode(result=result, wall_s=line["wall_s"], remarks=tuple(line["remarks"]), said=said)
        return cls(condition=condition, episode=episode, video=line["video"])


class EpisodeLog:
    """Appends one record per episode to a file, each on the disk before the next, and knows what is there already.

    A last line that was cut short is dropped when the file is opened. Use it as a context. ``ValueError`` where another
    process has the file open so, or a line is no record; ``OSError`` with the remedy on a disk that cannot lock files.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._file = path, _opened_alone(path)
        self.records: list[EpisodeRecord] = []
        """All records, the oldest first."""
        try:
            self.records += read_episodes(path)
            self._drop_torn_line()
        except BaseException:
            self._file.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.close()

    def append(self, record: EpisodeRecord) -> None:
        """Write it down, durably."""
        with naming(self.path):
            self._file.write(_line(record))
            self._file.flush()
            os.fsync(self._file.fileno())
        self.records.append(record)

    def _drop_torn_line(self) -> None:
        written = self.path.read_bytes()
        whole = written.rfind(b"\n") + 1
        if whole < len(written):
            with naming(self.path):
                self._file.truncate(whole)
                os.fsync(self._file.fileno())

    def of(self, condition: Condition) -> dict[int, FinishedEpisode]:
        """The episodes under ``condition`` that have ended, by seed."""
        return {each.episode.result.seed: each.episode for each in self.records if each.condition == condition}


def _opened_alone(path: Path) -> IO[str]:
    """The file, locked, to append to."""
    with naming(path):
        file = path.open("a", encoding="utf-8")
        fsync_path(path.parent)
    try:
        lock_file(file, "keep runs on a disk of this machine, or have locks switched on for the network disk")
    except BlockingIOError as error:
        file.close()
        raise ValueError(f"{path} is being written by another process: wait until that has ended") from error
    except OSError:
        file.close()
        raise
    return file


def read_episodes(path: Path) -> list[EpisodeRecord]:
    """All records of a file, the oldest first, without a last line that was cut short.

    ``FileNotFoundError`` if there is no file, ``ValueError`` for a line that is no record.
    """
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    return list(_records(path, [line for line in lines if line.endswith("\n")]))


def _records(path: Path, lines: list[str]) -> Iterator[EpisodeRecord]:
    for number, line in enumerate(lines, start=1):
        try:
            yield EpisodeRecord.from_dict(json.loads(line))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(f"{path}, line {number}: expected the record of an episode, got {error!r}") from error


def _line(record: EpisodeRecord) -> str:
    return strict_json(record.to_dict()) + "\n"


def _to_json(said: "Said") -> dict[str, Any]:
    after = None if said.after is None else said.after.tolist()
    numbers = {"chunk": said.chunk.tolist(), "before": said.before.tolist(), "after": after}
    return {"sentence": said.sentence, **numbers, "steps": said.steps}


def _from_json(said: dict[str, Any]) -> "Said":
    import torch

    from policies.agreement import Said

    after = None if said["after"] is None else torch.tensor(said["after"])
    return Said(said["sentence"], torch.tensor(said["chunk"]), torch.tensor(said["before"]), after, said["steps"])
