"""Let a backbone learn to look at rendered scenes; the preset comes first, such as: vla pretrain nano.

What comes of it is the folder backbone in the run's last checkpoint, from which policies start: vla train nano-bridge
--data FOLDER --init-backbone RUN_DIR. --preview 12 draws what the network would see, and stops. vla pretrain --resume
RUN_DIR goes on with a run that was stopped; with --train.steps N, more than it has, it lengthens a finished one.
"""

from pathlib import Path
from typing import TYPE_CHECKING

from configs.machine import describe_run
from configs.pretraining import PRESETS, Config
from configs.run_directory import CONFIG_FILE, create_run_directory, save_config, write_json
from configs.serialization import to_json
from policies.pretraining.scenes import SceneProcess

if TYPE_CHECKING:
    from policies.pretraining.trainer import PretrainSummary

REPORT_FILE = "report.html"
RESULTS_FILE = "results.json"
PREVIEW_FILE = "preview.png"


def presets() -> dict[str, tuple[str, Config]]:
    """Complete configs to choose from, each with a line about it."""
    return {name: ((make.__doc__ or "").strip(), make()) for name, make in PRESETS.items()}


def run(config: Config) -> int:
    """Learn, or draw a preview, in a new run directory."""
    check_sizes(config)
    if config.preview:
        _draw(config)
        return 0
    with SceneProcess(config.scenes.source) as scenes:
        run_dir = create_run_directory("pretrain", config.name, config, config.outputs)
        pretrain_in(config, scenes, run_dir, resume=False)
    return 0


def resume(config: Config, run_dir: Path) -> int:
    """Go on in ``run_dir`` from its newest whole checkpoint."""
    with SceneProcess(config.scenes.source) as scenes:
        pretrain_in(config, scenes, run_dir, resume=True)
    return 0


def check_sizes(config: Config) -> None:
    """``ValueError`` unless the network fits the pictures: it is built once, before any work."""
    side_px = config.scenes.image_size_px
    config.backbone.fresh.build(state_dim=3, views=1, image_size_px=(side_px, side_px), waypoint_dim=3)


def pretrain_in(config: Config, scenes: SceneProcess, run_dir: Path, *, resume: bool) -> "PretrainSummary":
    """Learn in ``run_dir``, write results and report, and say what came of it."""
    from policies.pretraining.trainer import finish, prepare
    from vla.base import load_base

    prepared = prepare(run_dir, config.train, config.backbone, scenes, resume=resume)
    save_config(config, run_dir / CONFIG_FILE)  # what it goes on with, more steps say, is from now on what the run is
    print(f"run: {run_dir}")
    summary = finish(prepared)
    sha256 = load_base(summary.backbone).sha256
    write_json({"steps": summary.steps, "sha256": sha256, "held_out": summary.held_out}, run_dir / RESULTS_FILE)
    write_pretraining_report(config, summary, sha256, run_dir)
    found = summary.held_out
    print(
        f"{summary.steps} steps, {summary.steps_per_s:.1f} steps/s; held-out scenes: median error "
        f"{found['world_cm_median']:.1f} cm, {found['within_3cm']:.0%} within 3 cm, {found['within_3px']:.0%} within "
        f"3 px\nbackbone: {summary.backbone}\nreport: {run_dir / REPORT_FILE}"
    )
    return summary


def write_pretraining_report(config: Config, summary: "PretrainSummary", sha256: str, run_dir: Path) -> None:
    """Learning curves, how well it looks, numbers and settings as ``report.html`` in the run directory."""
    from configs.report.document import CurvesSection, FactsSection, SettingsSection, read_curves, write_report

    found = summary.held_out
    looks = {
        "median error in the world": f"{found['world_cm_median']:.2f} cm",
        "mean error in the world": f"{found['world_cm']:.2f} cm",
        "within 3 cm": f"{found['within_3cm']:.1%}",
        "within 3 px, per view": f"{found['within_3px']:.1%}",
        "loss": f"{found['loss']:.4f}",
    }
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
    note = f"{config.train.held_out_tables} tables and words that were never learned from, by the averaged weights."
    sections = [
        FactsSection(title="Held-out scenes", note=note, facts=looks),
        CurvesSection(charts=read_curves(run_dir)),
        FactsSection(title="The run", facts=facts),
        FactsSection(title="Machine and versions", facts=describe_run()),
        SettingsSection(config=to_json(config)),
    ]
    write_report(run_dir / REPORT_FILE, f"Pre-training of {config.name}", sections)


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
