"""Train a policy from demonstrations; the preset comes first, such as: vla train nano-bridge --data FOLDER.

vla train --resume RUN_DIR goes on with a run that was stopped; with --train.steps N, more than it has, it lengthens a
finished one. --init-from RUN_DIR starts a new run from a finished one's weights, --init-backbone RUN_DIR from what a
run of vla pretrain has learned to look with; otherwise --backbone.weights says: shipped, for what comes with the
package, or fresh. --evaluate.every N tries the policy out in simulation as it learns, and keeps the checkpoint that did
best; --train.validation-share S never learns from a share of the episodes. --lifelong.tasks A B C learns tasks one
after the other, in the way of --lifelong.method.
"""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.evaluating import evaluator_of
from configs.lifelong import check_sequence, write_sequence
from configs.machine import describe_run
from configs.presets import PRESETS
from configs.run_directory import CONFIG_FILE, create_run_directory, save_config
from configs.serialization import to_json
from configs.terminal import print_anything
from configs.training import Config
from policies.device import resolve_device
from policies.imitation.further import objectives_in
from policies.imitation.parts import check_parts
from policies.imitation.stages import stages_for
from policies.keyframe_targets import gripper_dims, pose_dims
from policies.network_input import check_depth, waypoint_dims
from policies.training.checkpoint import BEST
from policies.training.group import Group
from policies.training.processes import in_processes, started_by_torchrun
from vla.backbones.nano_config import NanoConfig
from vla.config import BackboneConfig, HeadConfig, VLAConfig
from vla.heads.heatmap_config import HeatmapConfig

if TYPE_CHECKING:
    from envs.specs import EmbodimentSpec
    from policies.imitation.starting import Start
    from policies.imitation.trainer import TrainSummary

REPORT_FILE = "report.html"


def presets() -> dict[str, tuple[str, Config]]:
    """Complete configs to choose from, each with a line about it."""
    return {name: ((make.__doc__ or "").strip(), make()) for name, make in PRESETS.items()}


def run(config: Config) -> int:
    """Train in a new run directory."""
    from policies.imitation.demonstrations import embodiment_of

    start_of(config)
    check_sequence(config)
    vla_config = network_config(config)
    check_start(config, vla_config, embodiment_of(config.data))
    check_evaluator(config)
    with started_by_torchrun(config.train.device):
        new = partial(create_run_directory, "train", config.name, config, config.outputs)
        train_in(config, vla_config, Group.here().from_lead(new), resume=False)
    return 0


def resume(config: Config, run_dir: Path) -> int:
    """Go on in ``run_dir`` from its newest whole checkpoint."""
    vla_config = network_config(config)
    check_evaluator(config)
    with started_by_torchrun(config.train.device):
        train_in(config, vla_config, run_dir, resume=True)
    return 0


def network_config(config: Config) -> VLAConfig:
    """The network for the robot that recorded the data; ``ValueError`` if the two do not fit."""
    from policies.data.dataset import DemonstrationDataset

    if not config.data:
        raise ValueError("name at least one folder of demonstrations: --data FOLDER (vla collect makes them)")
    datasets = [DemonstrationDataset(path) for path in config.data]
    records = [record for dataset in datasets for record in dataset.records]
    return network_for(
        config,
        datasets[0].embodiment,
        tasks=tuple(dict.fromkeys(record.task for record in records)),
        instructions=tuple(dict.fromkeys(record.instruction for record in records)),
    )


def check_start(config: Config, vla_config: VLAConfig, embodiment: "EmbodimentSpec") -> None:
    """``ValueError`` unless what to start from, if anything, fits the network and the robot of the demonstrations."""
    start_of(config).load(vla_config, embodiment)


def check_evaluator(config: Config) -> None:
    """``ValueError`` unless the policy can act in what it is to be tried out in, if in anything."""
    if (evaluator := evaluator_of(config)) is not None:
        evaluator.check()


def start_of(config: Config) -> "Start":
    """What to start from; ``ValueError`` where the config names two things."""
    from policies.imitation.starting import Start

    return Start(policy=config.init_from, backbone=config.init_backbone)


def network_for(
    config: Config, embodiment: "EmbodimentSpec", *, tasks: Sequence[str], instructions: Sequence[str]
) -> VLAConfig:
    """The network for a robot; it is built once, so that settings which do not fit are refused before any work, and
    what its backbone reads from elsewhere is known.

    Its text window, unless the config says which, holds the ``instructions`` of the data and whatever else the
    ``tasks`` may say in an evaluation, as far as a policy to start from has words for that; so are its pictures of that
    policy's size, or else of that of the data. ``ValueError`` for a window that does not hold the data's, for stages
    that it cannot learn in, for teachers that do not fit, and for a device that is not there.
    """
    from policies.imitation.teaching import Teaching
    from vla.model import VLA

    resolve_device(config.train.device)
    cameras = config.cameras or embodiment.camera_names
    if config.backbone.needs_depth:
        check_depth(embodiment, cameras)
    aims = isinstance(config.head, HeatmapConfig)
    network = VLAConfig(
        backbone=_backbone(config, tasks, instructions),
        head=_head(config.head, embodiment, tuple(cameras)),
        cameras=tuple(cameras),
        image_size_px=_image_size_px(config, embodiment, cameras),
        state_dim=embodiment.state_dim,
        action_dim=embodiment.action_dim,
        horizon=config.horizon,
        waypoint_dims=waypoint_dims(embodiment) if config.backbone.locates and not aims else (),
        pool=config.lifelong.pool_config,
    )
    built = VLA(network)
    stages = stages_for(config.train.stages, locates=bool(network.waypoint_dims))
    if names := objectives_in(stages):
        teaching = Teaching(config.train.teachers, names, built)
        teaching.check(embodiment, instructions)
        built.objectives.update(teaching.objectives)
    check_parts(built, stages)
    try:
        built.backbone.check_texts(instructions)
    except ValueError as error:
        if (giver := _window_giver(config)) is None:
            raise
        raise ValueError(f"training cannot start from {giver}, whose text window is too short: {error}") from error
    return built.config


def _image_size_px(config: Config, embodiment: "EmbodimentSpec", cameras: Sequence[str]) -> tuple[int, int]:
    """(Height, width) of the pictures that the network sees."""
    if (side := config.image_size_px) is not None:
        return side, side
    if config.init_from is not None and len(set(size := _network_of(config.init_from).image_size_px)) == 1:
        return size
    recorded = {(embodiment.camera(name).height_px, embodiment.camera(name).width_px) for name in cameras}
    if len(recorded) != 1:
        raise ValueError(f"the cameras {list(cameras)} have sizes {sorted(recorded)}; choose one with --image-size-px")
    return recorded.pop()


def _network_of(start: Path) -> VLAConfig:
    """The network of the policy to start from; ``CheckpointError`` where there is none."""
    from policies.vla_policy import find_policy
    from vla.saving import CONFIG_FILE as NETWORK_FILE
    from vla.saving import read_config

    return read_config(find_policy(start) / NETWORK_FILE)


def _head(head: HeadConfig, embodiment: "EmbodimentSpec", cameras: tuple[str, ...]) -> HeadConfig:
    """The config's, with what it is to be told of the robot's state; ``ValueError`` for a robot that it is not for."""
    if not isinstance(head, HeatmapConfig):
        return head
    pose_dims(embodiment)
    check_depth(embodiment, cameras)
    return head if head.state_dims is not None else replace(head, state_dims=gripper_dims(embodiment))


def _backbone(config: Config, tasks: Sequence[str], instructions: Sequence[str]) -> BackboneConfig:
    """The config's, with a text window: of a policy to start from its own, or a part of it where that will do."""
    from configs.wording import long_sentences

    said = [*instructions, *long_sentences(tasks)]
    if (giver := _window_giver(config)) is None:
        return config.backbone.reading(said)
    window = _network_of(giver).backbone.max_text_tokens
    if window and isinstance(config.backbone, NanoConfig):
        window = min(window, config.backbone.reading(said).max_text_tokens or window)
    return replace(config.backbone, max_text_tokens=window)


def _window_giver(config: Config) -> Path | None:
    """The policy to start from, where its text window is taken over."""
    return config.init_from if config.backbone.max_text_tokens is None else None


def train_in(config: Config, vla_config: VLAConfig, run_dir: Path, *, resume: bool) -> "TrainSummary":
    """Train in ``run_dir``, in as many processes as there are to be, write its report, and say what came of it."""
    if config.init_from is not None:  # what was taken over, so that going on does without the old policy
        height, width = vla_config.image_size_px
        side = config.image_size_px or (height if height == width else None)
        config = replace(config, backbone=vla_config.backbone, image_size_px=side)
    train = config.train
    summary = in_processes(train.processes, train.device, _take_part, config, vla_config, run_dir, resume)
    if Group.here().leads:
        write_training_report(config, summary, run_dir)
        print(
            f"{summary.steps} steps, loss {summary.loss:.4f}, {summary.parameters / 1e6:.2f} M parameters, "
            f"{summary.episodes} episodes, {summary.steps_per_s:.1f} steps/s\n"
            f"checkpoint: {summary.checkpoint}\nreport: {run_dir / REPORT_FILE}"
        )
        if config.lifelong:
            write_sequence(config, summary, run_dir)
        if summary.best is not None:
            print(f"best: {summary.checkpoint.with_name(BEST)}, {summary.best}")
    return summary


def _take_part(config: Config, vla_config: VLAConfig, run_dir: Path, resume: bool) -> "TrainSummary":
    """Train as one of the processes that learn together; the leading one saves the config and says what happens."""
    from policies.imitation.trainer import finish, prepare

    prepared = prepare(
        run_dir,
        config.train,
        vla_config,
        config.data,
        resume=resume,
        start=start_of(config),
        evaluator=evaluator_of(config),
        lifelong=config.lifelong,
    )
    if prepared.learner.group.leads:
        print_anything()
        save_config(config, run_dir / CONFIG_FILE)  # what it goes on with, more steps say, is now what the run is
        print(f"run: {run_dir}")
        if prepared.learner.adoption is not None:
            print(f"from {config.init_backbone or 'the shipped backbone'}: {prepared.learner.adoption}")
    return finish(prepared)


def write_training_report(config: Config, summary: "TrainSummary", run_dir: Path) -> None:
    """Learning curves, numbers and settings as ``report.html`` in the run directory."""
    from configs.report.document import CurvesSection, FactsSection, SettingsSection, read_curves, write_report
    from configs.report.lifelong import sequence_sections

    facts = {
        "steps": summary.steps,
        "resumed from step": summary.resumed_from,
        "last loss": f"{summary.loss:.5f}",
        "parameters": f"{summary.parameters:,}",
        "demonstrations": f"{summary.episodes} episodes, {summary.frames} frames",
        "held out": f"{summary.held_out} episodes",
        "best checkpoint": "not evaluated" if summary.best is None else summary.best,
        "wall time": f"{summary.wall_s:.0f} s",
        "speed": f"{summary.steps_per_s:.1f} steps/s",
        "seed": config.train.seed,
        "checkpoint": summary.checkpoint,
    }
    sections = [
        *sequence_sections(config.lifelong, summary.trials),
        CurvesSection(charts=read_curves(run_dir)),
        FactsSection(title="The run", facts=facts),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(config)),
    ]
    write_report(run_dir / REPORT_FILE, f"Training of {config.name}", sections)
