"""What ``vla eval`` keeps beside its results: every episode as it ends, films, and what the outcomes depend on."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol, Self

from configs.acting import UNTAUGHT, is_server
from configs.experts import content_digest
from configs.machine import RECORDED_PACKAGES, simulator_digest, versions
from configs.run_directory import write_json
from configs.worlds import EnvConfig, Split
from envs.simulators import SIMULATORS
from policies.comparison import UnpairedError
from policies.conditions import Condition
from policies.episode_log import EPISODES_FILE, EpisodeLog, EpisodeRecord, FinishedEpisode, read_episodes
from vla.durable import write_atomically

if TYPE_CHECKING:
    from configs.report.video import EncodedVideo
    from policies.evaluation import EvaluationResult

PROVENANCE_FILE = "provenance.json"
VIDEOS_DIR = "videos"
WORLDS = ("engine", "robot", "profile", "suite_profile", "suite_steps", "palette")
"""Settings of the worlds by which episodes are others, beside what a policy says of its robot and cameras."""
SIMULATOR = "simulator"
WORKED = ("libero", "maniskill")
"""Where :func:`configs.worker_suites.suite_provenance` keeps what its suites depend on."""


def provenance(policy: str, env: EnvConfig, split: Split) -> dict[str, Any]:
    """What outcomes depend on beside task, seed and condition: JSON-ready, without times or places.

    ``policy_sha256`` is None where nobody can tell: of a server, and of what has no weights.
    """
    return {
        "policy": policy,
        "policy_sha256": None if policy in UNTAUGHT or is_server(policy) else _weights_digest(Path(policy)),
        "simulator_sha256": simulator_digest(),
        "stream": "evaluate",
        "split": split,
        **{name: list(value) if isinstance(value := getattr(env, name), tuple) else value for name in WORLDS},
        "versions": versions(RECORDED_PACKAGES),
    }


def read_provenance(run_dir: Path) -> dict[str, Any]:
    """That of a run; ``FileNotFoundError`` where the folder is none of an evaluation."""
    path = run_dir / PROVENANCE_FILE
    if not path.is_file():
        raise FileNotFoundError(
            f"{run_dir} is no evaluation with records: expected a run of vla eval, with {path.name}"
        )
    return json.loads(path.read_text(encoding="utf-8"))


@dataclass(frozen=True, kw_only=True)
class EvaluatedRun:
    """An evaluation that was kept: its folder, what its outcomes depend on, and its episodes."""

    path: Path
    provenance: Mapping[str, Any]
    records: Sequence[EpisodeRecord]

    @classmethod
    def read(cls, path: Path) -> Self:
        """``FileNotFoundError`` where the folder is no run of ``vla eval``, ``ValueError`` where it has no episodes."""
        made_by = read_provenance(path)
        records = read_episodes(file) if (file := path / EPISODES_FILE).is_file() else []
        if not records:
            raise ValueError(f"{path} has no finished episode yet: go on with vla eval --resume {path}")
        return cls(path=path, provenance=made_by, records=records)


def run_names(runs: "Sequence[EvaluatedRun]") -> list[str]:
    """What to call them: their folders' names, where these tell them apart, else the folders."""
    names = [run.path.resolve().name for run in runs]
    return names if len(set(names)) == len(names) else [str(run.path) for run in runs]


def check_same_worlds(a: EvaluatedRun, b: EvaluatedRun, across: Sequence[str] = ()) -> None:
    """:class:`UnpairedError` names in what the worlds of two runs differ, beside what they are compared ``across``.

    What only one of them has written down, as one of an older version may, is taken for the same.
    """
    ours, theirs = _worlds_of(a), _worlds_of(b)
    told = [
        f"{name}: A has {ours[name]}, B {theirs[name]}"
        for name in ours
        if name in theirs and ours[name] != theirs[name] and name.partition(" ")[0] not in across
    ]
    if told:
        what = "; ".join(told)
        raise UnpairedError(f"the episodes of A and B are not the same ({what}); --across NAME compares them still")


def _worlds_of(run: EvaluatedRun) -> dict[str, Any]:
    """What is written down of a run's worlds, by what ``across`` calls it and, of the simulator, a part's name."""
    made_by, installed = run.provenance, run.provenance.get("versions", {})
    worlds = {name: made_by[name] for name in ("stream", "split", *WORLDS) if name in made_by}
    parts = {name: installed[name] for name in _simulators_of(run) if name in installed}
    for suite in WORKED:
        about = dict(made_by.get(suite, {}))
        parts |= {f"{suite} {name}": value for name, value in (about.pop("versions", {}) | about).items()}
    code = {SIMULATOR: made_by["simulator_sha256"][:12]} if "simulator_sha256" in made_by else {}
    return worlds | code | {f"{SIMULATOR} {name}": value for name, value in parts.items()}


def _simulators_of(run: EvaluatedRun) -> list[str]:
    """The packages by which the run's tasks were simulated in this process."""
    suites = {record.condition.task.partition("/")[0] for record in run.records} & SIMULATORS.keys()
    warp = ("mujoco-warp", "warp-lang") if run.provenance.get("engine") == "warp" else ()
    return ["mujoco", *warp, *sorted(SIMULATORS[name].module.replace("_", "-") for name in suites)]


def condition_of(result: "EvaluationResult") -> Condition:
    """What the episodes of a result have in common."""
    return Condition(
        task=result.task,
        perturbation=result.perturbation,
        instructions=result.instructions,
        without=result.without,
    )


class EpisodeKeeper(Protocol):
    """Knows which episodes of an evaluation have ended, and keeps the others as they end."""

    def finished(self, condition: Condition) -> Mapping[int, FinishedEpisode]:
        """Those under ``condition`` that have ended, by seed."""
        ...

    def keeper(self, condition: Condition) -> Callable[[FinishedEpisode], None]:
        """Keeps an episode under ``condition``."""
        ...


class EvalRecord:
    """The episodes of an evaluation in ``run_dir``, which may go on with what is there. Use it as a context.

    ``ValueError`` where the run's episodes were of other code, versions or weights than ``provenance``.
    """

    def __init__(self, run_dir: Path, provenance: Mapping[str, Any]) -> None:
        self.run_dir, self.provenance = run_dir, dict(provenance)
        if (run_dir / PROVENANCE_FILE).is_file():
            _check_same(read_provenance(run_dir), self.provenance)
        write_json(self.provenance, run_dir / PROVENANCE_FILE)
        self.log = EpisodeLog(run_dir / EPISODES_FILE)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.log.__exit__()

    def finished(self, condition: Condition) -> Mapping[int, FinishedEpisode]:
        return self.log.of(condition)

    def keeper(self, condition: Condition) -> Callable[[FinishedEpisode], None]:
        """Writes down an episode under ``condition``, its film before it."""

        def keep(episode: FinishedEpisode) -> None:
            video = self._write_film(condition, episode)
            self.log.append(EpisodeRecord(condition=condition, episode=episode, video=video))

        return keep

    def videos_of(self, result: "EvaluationResult") -> "list[EncodedVideo]":
        """The films of a result's episodes, in the order of their seeds."""
        from configs.report.video import EncodedVideo

        condition = condition_of(result)
        filmed = {each.episode.result.seed: each for each in self.log.records if each.condition == condition}
        return [
            EncodedVideo(
                webp=(self.run_dir / video).read_bytes(),
                task=episode.task,
                instruction=episode.instruction,
                seed=episode.seed,
                success=episode.success,
            )
            for episode in result.episodes
            if (video := filmed[episode.seed].video) is not None
        ]

    def _write_film(self, condition: Condition, episode: FinishedEpisode) -> str | None:
        from configs.report.results import video_of
        from configs.report.video import animated_webp

        if episode.film is None:
            return None
        words = [condition.perturbation or "", condition.task, condition.instructions, *condition.without]
        name = "_".join(word.replace("/", "-").replace(":", "-") for word in words if word)
        path = self.run_dir / VIDEOS_DIR / f"{name}_{episode.result.seed}.webp"
        path.parent.mkdir(exist_ok=True)
        write_atomically(path, animated_webp(video_of(episode.film)))
        return path.relative_to(self.run_dir).as_posix()


def _weights_digest(policy: Path) -> str:
    from policies.vla_policy import find_policy

    return content_digest(find_policy(policy))


def _check_same(before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    differing = [name for name in {**before, **now} if before.get(name) != now.get(name)]
    if differing:
        told = "; ".join(f"{name} was {before.get(name)} and is {now.get(name)}" for name in differing)
        raise ValueError(f"the episodes that the run has are of another evaluation, begin anew: {told}")
