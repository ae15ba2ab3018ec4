"""Improve a policy by reward; the preset comes first: vla rl nano-ppo --policy RUN --tasks reach pick place.

What comes of it is a run directory whose last checkpoint acts as any other policy: vla eval RUN_DIR. vla rl --resume
RUN_DIR goes on with a run that was stopped; with --rl.iterations N, more than it has, it lengthens a finished one.
--evaluate.every N tries the policy out in other episodes as it learns, and keeps the checkpoint that did best.
vla rl robofume --policy RUN --data DATASET --tasks open-drawer also learns from demonstrations, in worlds that nobody
resets: a classifier says when the opposite (close-drawer) is to be asked for.
"""

from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.machine import describe_run
from configs.reinforcing import check, learner_for, starting_policy, worlds_for
from configs.rl import PRESETS, Config
from configs.robofume import check_robofume, robofume_learner, robofume_worlds, starting_robofume
from configs.run_directory import CONFIG_FILE, create_run_directory, save_config
from configs.serialization import to_json
from configs.terminal import print_anything
from policies.training.checkpoint import BEST
from policies.training.group import Group
from policies.training.processes import in_processes, started_by_torchrun

if TYPE_CHECKING:
    from envs.vector import TaskEnv
    from policies.training.checkpoint import TrainingState
    from rl.learner import RLLearner
    from rl.robofume.learner import RoboFuMELearner
    from rl.trainer import RLSummary

REPORT_FILE = "report.html"


def presets() -> dict[str, tuple[str, Config]]:
    """Complete configs to choose from, each with a line about it."""
    return {name: ((make.__doc__ or "").strip(), make()) for name, make in PRESETS.items()}


def run(config: Config) -> int:
    """Learn in a new run directory."""
    check(config) if config.robofume is None else check_robofume(config)
    with started_by_torchrun(config.rl.device):
        new = partial(create_run_directory, "rl", config.name, config, config.outputs)
        learn_in(config, Group.here().from_lead(new), resume=False)
    return 0


def resume(config: Config, run_dir: Path) -> int:
    """Go on in ``run_dir`` from its newest whole checkpoint."""
    with started_by_torchrun(config.rl.device):
        learn_in(config, run_dir, resume=True)
    return 0


def learn_in(config: Config, run_dir: Path, *, resume: bool) -> "RLSummary":
    """Learn in ``run_dir``, in as many processes as there are to be, write its report, and say what came of it."""
    summary = in_processes(config.rl.processes, config.rl.device, _take_part, config, run_dir, resume)
    if Group.here().leads:
        write_rl_report(config, summary, run_dir)
        told = ", ".join(f"{name} {value:.3g}" for name, value in summary.timings.items())
        success = "; ".join(f"{k[8:]} {v:.1%}" for k, v in summary.last.items() if k.startswith("success/"))
        print(
            f"{summary.steps} iterations in {summary.wall_s:.0f} s; medians: {told}\n"
            f"success while learning: {success or 'no episode ended in the last iterations'}\n"
            f"checkpoint: {summary.checkpoint}\nreport: {run_dir / REPORT_FILE}"
        )
        if summary.best is not None:
            print(f"best: {summary.checkpoint.with_name(BEST)}, {summary.best}")
    return summary


def _take_part(config: Config, run_dir: Path, resume: bool) -> "RLSummary":
    """Learn as one of the processes that learn together; the leading one saves the config and says what happens."""
    from rl.sharing import worlds_of
    from rl.trainer import finish, prepare

    worlds = worlds_of(config.rl, Group.here())
    made: list[TaskEnv] = []

    def make(legs: Sequence[int], state: "TrainingState | None") -> "RLLearner | RoboFuMELearner":
        source = None if state is None else run_dir
        if config.robofume is not None:
            refined = starting_robofume(config, source)
            made.append(robofume_worlds(config, refined))
            return robofume_learner(config, refined, made[0], run_dir, legs)
        policy = starting_policy(config, source)
        here = worlds_for(config, policy, len(worlds))
        made.append(here[0])
        return learner_for(config, policy, here, legs)

    try:
        prepared = prepare(run_dir, config.rl, make, resume=resume)
        if prepared.learner.group.leads:
            print_anything()
            save_config(config, run_dir / CONFIG_FILE)  # what it goes on with, more iterations say, is what the run is
            print(f"run: {run_dir}")
        return finish(prepared)
    finally:
        for env in made:
            env.close()


def write_rl_report(config: Config, summary: "RLSummary", run_dir: Path) -> None:
    """Learning curves, numbers and settings as ``report.html`` in the run directory."""
    from configs.report.document import CurvesSection, FactsSection, SettingsSection, read_curves, write_report

    facts = {
        "iterations": summary.steps,
        "resumed from iteration": summary.resumed_from,
        "parameters": f"{summary.parameters:,}",
        "wall time": f"{summary.wall_s:.0f} s",
        **{name: f"{value:.4g}" for name, value in summary.last.items()},
        "best checkpoint": "not evaluated" if summary.best is None else summary.best,
        **{f"median, {name}": f"{value:.4g}" for name, value in summary.timings.items()},
        "seed": config.rl.seed,
        "checkpoint": summary.checkpoint,
    }
    sections = [
        CurvesSection(charts=read_curves(run_dir)),
        FactsSection(title="The run", facts=facts),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(config)),
    ]
    write_report(run_dir / REPORT_FILE, f"Learning from reward of {config.name}", sections)
