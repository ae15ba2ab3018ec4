"""Let a backbone learn to look, to tell and to match on rendered scenes; the preset comes first: vla pretrain nano.

What comes of it is the folder backbone in the run's last checkpoint, from which policies start: vla train nano-bridge
--data FOLDER --init-backbone RUN_DIR. --preview 12 draws what the network would see, and stops. vla pretrain --resume
RUN_DIR goes on with a run that was stopped; with --train.steps N, more than it has, it lengthens a finished one.
--scenes.keep FOLDER keeps what was rendered for the next run. --teacher FOLDER names a sentence encoder to learn from.
--start RUN_DIR begins with the weights of another run; with --further RUN_DIR --train.weights.features 1 it keeps to
the features of one that went on from the same weights.
"""

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from configs.machine import describe_run
from configs.pretraining import PRESETS, Config, task_sentences
from configs.run_directory import CONFIG_FILE, create_run_directory, save_config, write_json
from configs.serialization import to_json
from configs.terminal import print_anything
from policies.pretraining.config import KNOWN_WORDS
from policies.pretraining.scenes import SceneProcess
from policies.training.group import Group
from policies.training.processes import in_processes, started_by_torchrun
from vla.sentence_encoder import check_encoder

if TYPE_CHECKING:
    from policies.pretraining.trainer import PretrainSummary

REPORT_FILE = "report.html"
RESULTS_FILE = "results.json"
PREVIEW_FILE = "preview.png"
_MEASURES = {
    "world_cm_median": ("median error in the world", "{:.2f} cm"),
    "world_cm": ("mean error in the world", "{:.2f} cm"),
    "within_3cm": ("within 3 cm", "{:.1%}"),
    "within_3px": ("within 3 px, per view", "{:.1%}"),
    "caption_nll": ("captions, nats a token", "{:.3f}"),
    "answers": ("right answers", "{:.1%}"),
    "caption_to_table": ("table found by its caption among 64", "{:.1%}"),
    "table_to_caption": ("caption found by its table among 64", "{:.1%}"),
    "told_apart": ("captions told from false ones", "{:.1%}"),
    "teacher_cosine": ("cosine to the teacher", "{:.3f}"),
    "loss": ("loss", "{:.4f}"),
}
"""Numbers of tables that were never learned from: what each is called, and how it is written."""


def presets() -> dict[str, tuple[str, Config]]:
    """Complete configs to choose from, each with a line about it."""
    return {name: ((make.__doc__ or "").strip(), make()) for name, make in PRESETS.items()}


def run(config: Config) -> int:
    """Learn, or draw a preview, in a new run directory."""
    check(config)
    if config.preview:
        _draw(config)
        return 0
    with started_by_torchrun(config.train.device):
        new = partial(create_run_directory, "pretrain", config.name, config, config.outputs)
        pretrain_in(config, Group.here().from_lead(new), resume=False)
    return 0


def resume(config: Config, run_dir: Path) -> int:
    """Go on in ``run_dir`` from its newest whole checkpoint."""
    check(config)
    with started_by_torchrun(config.train.device):
        pretrain_in(config, run_dir, resume=True)
    return 0


def check(config: Config) -> None:
    """``ValueError`` unless the network fits the pictures and there is a teacher; the network is built once."""
    from policies.pretraining.trainer import Before

    if config.teacher is not None:
        check_encoder(config.teacher)
    Before(start=config.start, further=config.further).load(resume=False)
    side_px = config.scenes.image_size_px
    config.backbone.fresh.build(state_dim=3, views=1, image_size_px=(side_px, side_px), waypoint_dim=3)


def pretrain_in(config: Config, run_dir: Path, *, resume: bool) -> "PretrainSummary":
    """Learn in ``run_dir``, in as many processes as there are to be, write results and report, and say what came."""
    summary = in_processes(config.train.processes, config.train.device, _take_part, config, run_dir, resume)
    if Group.here().leads:
        _tell(config, summary, run_dir)
    return summary


def _take_part(config: Config, run_dir: Path, resume: bool) -> "PretrainSummary":
    """Learn as one of the processes that learn together; the leading one saves the config and says what happens."""
    from policies.pretraining.trainer import Before, Teaching, finish, prepare

    teaching = None
    if config.teacher is not None:
        said = task_sentences(config.scenes.tasks)
        teaching = Teaching(teacher=config.teacher, sentences=said, keep=config.scenes.keep)
    with SceneProcess(config.scenes.source) as scenes:
        before = Before(start=config.start, further=config.further)
        prepared = prepare(run_dir, config.train, config.backbone, scenes, teaching, before=before, resume=resume)
        if prepared.learner.group.leads:
            print_anything()
            save_config(config, run_dir / CONFIG_FILE)  # what it goes on with, more steps say, is now what the run is
            print(f"run: {run_dir}")
        return finish(prepared)


def _tell(config: Config, summary: "PretrainSummary", run_dir: Path) -> None:
    from vla.base import load_base

    sha256 = load_base(summary.backbone).sha256
    write_json({"steps": summary.steps, "sha256": sha256, "held_out": summary.held_out}, run_dir / RESULTS_FILE)
    write_pretraining_report(config, summary, sha256, run_dir)
    found = "; ".join(f"{what}: {value}" for what, value in in_words(summary.held_out).items())
    known = "; ".join(f"{what}: {value}" for what, value in in_words(summary.held_out, KNOWN_WORDS).items())
    print(
        f"{summary.steps} steps, {summary.steps_per_s:.1f} steps/s; new tables in held-out words: {found}\n"
        f"in known words: {known}\n"
        f"backbone: {summary.backbone}\nreport: {run_dir / REPORT_FILE}"
    )


def write_pretraining_report(config: Config, summary: "PretrainSummary", sha256: str, run_dir: Path) -> None:
    """Learning curves, how well it does, numbers and settings as ``report.html`` in the run directory."""
    from configs.report.document import CurvesSection, FactsSection, SettingsSection, read_curves, write_report

    facts = {
        "steps": summary.steps,
        "resumed from step": summary.resumed_from,
        "last loss": f"{summary.loss:.5f}",
        "tables and sentences per step": f"{config.train.tables} × up to {config.train.sentences_per_table}",
        "wall time": f"{summary.wall_s:.0f} s",
        "speed": f"{summary.steps_per_s:.1f} steps/s",
        "seed": config.train.seed,
        "backbone": summary.backbone,
        "its hash": sha256,
    }
    note = f"{config.train.held_out_tables} tables that were never learned from, by the averaged weights."
    sections = [
        FactsSection(title="In held-out words", note=note, facts=in_words(summary.held_out)),
        FactsSection(title="In known words", note=note, facts=in_words(summary.held_out, KNOWN_WORDS)),
        CurvesSection(charts=read_curves(run_dir)),
        FactsSection(title="The run", facts=facts),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(config)),
    ]
    write_report(run_dir / REPORT_FILE, f"Pre-training of {config.name}", sections)


def in_words(numbers: Mapping[str, float], begin: str = "") -> dict[str, str]:
    """How well it does, in words: those of ``numbers`` whose names ``begin`` so; of answers, the kinds there are."""
    held_out = {name.removeprefix(begin): value for name, value in numbers.items() if name.startswith(begin)}
    found = {what: form.format(held_out[name]) for name, (what, form) in _MEASURES.items() if name in held_out}
    kinds = {name: value for name, value in held_out.items() if name.startswith("answers_")}
    return found | {f"right answers, {name[8:].replace('_', ' or ')}": f"{value:.1%}" for name, value in kinds.items()}


def _draw(config: Config) -> None:
    """A sentence about each of as many of the tables that are learned from first, in a run directory of their own."""
    from PIL import Image

    from policies.showing.grounding import grounding_sheet
    from vla.durable import written_aside

    source = config.scenes.source("train")
    try:
        scenes = source.batch(config.train.first_seed, config.preview, 1)
    finally:
        source.close()
    sheet = Image.fromarray(grounding_sheet(scenes, config.preview))
    path = create_run_directory("pretrain", f"{config.name}-preview", config, config.outputs) / PREVIEW_FILE
    with written_aside(path) as aside:
        sheet.save(aside, format="PNG")
    print(f"preview: {path}")
