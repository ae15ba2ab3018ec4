"""A sequence of tasks, as ``vla train --lifelong.tasks`` asks for it: what is refused, and what is written of it."""

from pathlib import Path
from typing import TYPE_CHECKING

from configs.run_directory import write_json
from configs.training import Config
from vla.backbones.nano_config import NanoConfig

if TYPE_CHECKING:
    from policies.imitation.trainer import TrainSummary

SEQUENCE_FILE = "lifelong.json"


def check_sequence(config: Config) -> None:
    """``ValueError`` for a sequence of tasks that cannot be learned as the config says it."""
    from policies.data.dataset import DemonstrationDataset
    from policies.imitation.lifelong.drawing import check_tasks

    lifelong = config.lifelong
    if not lifelong:
        if lifelong != type(lifelong)():
            raise ValueError(f"name the tasks of the sequence: lifelong.tasks A B …, got {lifelong}")
        return
    if config.evaluate.every:
        raise ValueError(
            "a sequence is tried out after each task: lifelong.episodes instead of evaluate.every, which is to be 0, "
            f"got {config.evaluate.every}"
        )
    if config.train.task_weights:
        raise ValueError(
            f"a sequence learns one task at a time: leave out task_weights, got {config.train.task_weights}"
        )
    lifelong.ends(config.train.steps)
    if lifelong.method != "full":
        if config.init_from is None:
            raise ValueError(
                f"{lifelong.method} updates a policy that has learned before: name it with init_from (shipped is the "
                "package's own, which the preset nano-tabletop starts from)"
            )
        if not isinstance(config.backbone, NanoConfig):
            raise ValueError(
                f"{lifelong.method} is for nano; a vision-language model has backbone.tuning lora beside method full"
            )
    datasets = [DemonstrationDataset(path, failures=config.train.failures) for path in config.data]
    check_tasks(lifelong.tasks, sorted({record.task for dataset in datasets for record in dataset.records}))


def write_sequence(config: Config, summary: "TrainSummary", run_dir: Path) -> None:
    """Every outcome of a sequence as ``lifelong.json`` in the run's folder, and one line about it; nothing where it was
    not tried out after every task.
    """
    from configs.report.lifelong import described, measures_of
    from policies.imitation.lifelong.measures import complete

    tasks, trials = config.lifelong.tasks, summary.trials
    if not complete(tasks, trials):
        return
    found = measures_of(tasks, trials)
    write_json({"tasks": list(tasks), "trials": trials, "measures": found}, run_dir / SEQUENCE_FILE)
    print(f"{described(found)}\noutcomes: {run_dir / SEQUENCE_FILE}")
