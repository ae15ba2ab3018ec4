"""Measuring one cell of a claim: demonstrations and bases once, a training that can be continued, an evaluation per
condition.
"""

import hashlib
import json
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from claim_methods import Base, Improving, Method, Recording
from claim_rows import SHUFFLED, SILENT, STOPOVER_EPISODES, USUAL, Row, is_axis, palette_of, tasks_before, tasks_of
from ledger import LEDGER, Cell, Key, Outcomes

from configs.acting import Actor
from configs.commands import collect, pretrain, rl, train
from configs.commands import eval as evaluation
from configs.environments import episode_seeds, one_torch_thread
from configs.pretraining import Config as Pretraining
from configs.run_directory import CONFIG_FILE, save_config, write_json
from configs.serialization import to_json
from configs.training import Config as Training
from configs.worlds import EnvConfig
from policies.evaluation import EvaluationResult
from policies.imitation.further import ALIGN, TeachersConfig, objectives_in
from policies.training.checkpoint import CHECKPOINTS, checkpoint_path
from policies.vla_policy import find_policy
from vla.saving import WEIGHTS_FILE
from vla.shipped import shipped_base
from vla.strict_json import strict_json

WORLDS = 25
BASE_FILE = "base.json"
OF_THE_WORD = ("precision", "recall", "false_positives", "resets_per_attempt")
"""What a run without resets says of the word that ended its attempts, since it began."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Where demonstrations, bases and trainings under way lie, in ``folder``, and cells are written, in ``ledger``.

    ``scenes`` keeps what pre-trainings have rendered; ``teacher`` is the sentence encoder that some of them learn from.
    """

    folder: Path
    scenes: Path
    teacher: Path | None = None
    ledger: Path = LEDGER

    def check(self, methods: Iterable[Method]) -> None:
        """``ValueError`` where something that one of the methods starts from is neither there nor can be trained."""
        for method in methods:
            if method.needs_sentences and self.teacher is None:
                taught = f"the base {method.base.name!r}" if method.base else "a method"
                raise ValueError(f"a sentence encoder teaches {taught}: say which one, --teacher FOLDER")
            if method.base is None:
                _about_shipped(method)
            else:
                pretrain.check(self._pretraining(method.base))

    def data(self, recording: Recording, count: int) -> tuple[Path, ...]:
        """The folders of a recording of ``count`` seeds per task, one for each part."""
        folder = self.folder / "demonstrations" / f"{recording.name}-{count}"
        return tuple(folder / _slug(part.perturbation or USUAL) for part, _ in recording.divided(count))

    def record(self, recording: Recording, count: int) -> None:
        """Record :meth:`data`, as far as it is not there yet."""
        for path, (part, seeds) in zip(self.data(recording, count), recording.divided(count), strict=True):
            settings = collect.Config(
                tasks=recording.tasks,
                num_envs=WORLDS,
                arm_start_rad=recording.arm_start_rad,
                env=EnvConfig(perturbation=part.perturbation, palette=recording.palette, depth=recording.depth),
            )
            path.parent.mkdir(parents=True, exist_ok=True)
            with one_torch_thread():
                collect.collect_tasks(settings, path, seeds)

    def run(self, key: Key) -> Path:
        """The run of a cell's training."""
        return self.folder / "runs" / key.path.removesuffix(".json")

    def base_run(self, base: Base) -> Path:
        """The run of a base's pre-training, named by its settings: another base of that name lies elsewhere."""
        settings = strict_json(to_json(self._pretraining(base)))
        return self.folder / "bases" / f"{_slug(base.name)}-{hashlib.sha256(settings.encode()).hexdigest()[:12]}"

    def train_base(self, base: Base) -> None:
        """Pre-train a base, from where an earlier process left it; nothing if it is there."""
        run_dir, config = self.base_run(base), self._pretraining(base)
        if (run_dir / BASE_FILE).is_file():
            return
        began = time.perf_counter()
        resume = (run_dir / CONFIG_FILE).is_file()
        save_config(config, run_dir / CONFIG_FILE)
        summary = pretrain.pretrain_in(config, run_dir, resume=resume)
        found = json.loads((run_dir / pretrain.RESULTS_FILE).read_text(encoding="utf-8"))
        about = {"name": base.name, "sha256": found["sha256"], "steps": summary.steps}
        write_json({**about, "wall_s": round(time.perf_counter() - began, 1)}, run_dir / BASE_FILE)

    def about_base(self, method: Method) -> Mapping[str, Any] | None:
        """What a cell says of the base of its method; None for a policy that starts from nothing."""
        if method.base is not None:
            return json.loads((self.base_run(method.base) / BASE_FILE).read_text(encoding="utf-8"))
        return _about_shipped(method)

    def _pretraining(self, base: Base) -> Pretraining:
        teacher = self.teacher if base.taught else None
        scenes = replace(base.pretraining.scenes, keep=self.scenes)
        return replace(base.pretraining, scenes=scenes, teacher=teacher)


def measure(row: Row, key: Key, work: Work) -> Cell:
    """Train, evaluate, and write the cell into the ledger; demonstrations and base must be there."""
    began = time.perf_counter()
    method, run_dir, start = row.methods[key.method], work.run(key), row.start_of(key)
    if method.improving is not None and start is not None:
        data = work.data(row.recording_of(key.method), key.demonstrations)
        trained_s, told = _improve(method.improving, key, work.run(start), run_dir, data)
    else:
        trained_s, told = train_policy(row, key, work), {}
    conditions = row.conditions_of(key.method)
    results = {condition: _evaluate(row, condition, run_dir, key) for condition in conditions}
    outcomes = [_outcomes(condition, result) for condition, found in results.items() for result in found]
    seconds = {"train_s": round(trained_s, 1), "wall_s": round(time.perf_counter() - began, 1)}
    figures = told | seconds | _agreement(results[conditions[0]])
    cell = Cell(key=key, outcomes=tuple(outcomes), figures=figures, base=work.about_base(method))
    cell.write(work.ledger)
    return cell


def train_policy(row: Row, key: Key, work: Work) -> float:
    """Seconds spent in this process; goes on with what an earlier one left."""
    run_dir, config = work.run(key), training_of(row, key, work)
    resume = (run_dir / CONFIG_FILE).is_file()
    save_config(config, run_dir / CONFIG_FILE)
    return train.train_in(config, train.network_config(config), run_dir, resume=resume).wall_s


def training_of(row: Row, key: Key, work: Work) -> Training:
    """The method's training at the budget and with the seed of the cell."""
    method = row.methods[key.method]
    data, policy = work.data(row.recording_of(key.method), key.demonstrations), method.policy
    steps, teachers = key.steps * method.longer, _teachers(row, key, work)
    config = replace(policy, data=data, train=replace(policy.train, steps=steps, seed=key.seed, teachers=teachers))
    return config if method.base is None else replace(config, init_backbone=work.base_run(method.base))


def _improve(
    improving: Improving, key: Key, start: Path, run_dir: Path, data: tuple[Path, ...]
) -> tuple[float, dict[str, float]]:
    """Likewise, by reward, and what there is to tell of the word that was taken for it, if one was."""
    config = replace(improving, policy=start, rl=replace(improving.rl, seed=key.seed))
    if config.robofume is not None:
        config = replace(config, data=data)
    resume = (run_dir / CONFIG_FILE).is_file()
    run_dir.mkdir(parents=True, exist_ok=True)
    summary = rl.learn_in(config, run_dir, resume=resume)
    return summary.wall_s, {name: round(summary.last[name], 3) for name in OF_THE_WORD if name in summary.last}


def _teachers(row: Row, key: Key, work: Work) -> TeachersConfig:
    """Those of a cell's training: the first method's run, or the sentence encoder."""
    method, start = row.methods[key.method], row.start_of(key)
    teachers = method.policy.train.teachers
    if method.teacher is None:
        return teachers
    teacher = work.teacher if start is None else work.run(start)
    aligns = ALIGN in objectives_in(method.policy.train.stages)
    return replace(teachers, policy=teacher) if aligns else replace(teachers, encoder=teacher)


def _evaluate(row: Row, condition: str, run_dir: Path, key: Key) -> list[EvaluationResult]:
    tasks, seeds, acting = tasks_of(condition) or row.recording.tasks, episode_seeds(row.episodes), run_dir
    if count := tasks_before(condition):
        ends = row.methods[key.method].policy.lifelong.ends(key.steps)
        acting = checkpoint_path(run_dir / CHECKPOINTS, ends[count - 1])
        tasks, seeds = tasks[:count], episode_seeds(STOPOVER_EPISODES)
    settings = evaluation.Config(
        policy="cell",
        tasks=tasks,
        num_envs=WORLDS,
        videos=0,
        instructions="shuffled" if condition == SHUFFLED else "given",
    )
    worlds = EnvConfig(threads=1, palette=palette_of(condition))
    actor = Actor(acting, worlds, threads=1, answer=condition != SILENT)
    return evaluation.evaluate_tasks(actor, settings, seeds, condition if is_axis(condition) else None)


def _outcomes(condition: str, result: EvaluationResult) -> Outcomes:
    obedient = result.same_goal_share if condition == SHUFFLED else None
    return Outcomes.of(condition, result.task, [each.seed for each in result.episodes], result.outcomes, obedient)


def _agreement(results: Sequence[EvaluationResult]) -> dict[str, float]:
    """Of how many decisions the words were true of the chunk that came with them, and of how many they would be by
    chance; nothing of policies that do not speak.
    """
    spoken = [result.agreement for result in results if result.agreement is not None]
    if not spoken:
        return {}
    said = {
        "decisions": sum(each.decisions for each in spoken),
        "true": sum(each.chunk.value * each.decisions for each in spoken),
        "true_by_chance": sum(each.chunk_by_chance * each.decisions for each in spoken),
    }
    return {name: round(count, 1) for name, count in said.items()}


def _about_shipped(method: Method) -> Mapping[str, str] | None:
    """What of the package a method starts from, if from anything; ``CheckpointError`` where the package lacks it."""
    if (start := method.policy.init_from) is not None:
        weights = find_policy(start) / WEIGHTS_FILE
        return {"name": "shipped policy", "sha256": hashlib.sha256(weights.read_bytes()).hexdigest()}
    if method.policy.backbone.weights == "shipped":
        return {"name": "shipped", "sha256": shipped_base().sha256}
    return None


def _slug(name: str) -> str:
    return name.replace(" ", "-").replace(":", "-").replace("/", "-")
