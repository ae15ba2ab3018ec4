"""vla pretrain on rendered scenes: a run, more of it, a preview, and what is refused."""

import json

import pytest
from PIL import Image
from sentence_encoders import make_encoder

from configs.cli import main
from configs.commands.pretrain import check
from configs.pretraining import PRESETS, Config
from configs.run_directory import load_config
from configs.serialization import from_json, to_json
from policies.training.metrics import read_metrics
from vla.base import load_base
from vla.objectives.saving import load_objectives


@pytest.mark.parametrize("preset", PRESETS)
def test_every_preset_fits_its_pictures_and_survives_json(preset):
    config = PRESETS[preset]()
    check(config)
    assert from_json(Config, json.loads(json.dumps(to_json(config)))) == config


OWNERS = {"telling", "matching", "text_teacher"}
ALL_BUT_TEACHER = ("point", "pixel", "heatmap", "caption", "answer", "matching")


def newest(outputs):
    return max(outputs.glob("pretrain/*/*"), key=lambda path: path.stat().st_mtime_ns)


def test_a_run_leaves_a_backbone_results_and_a_report_and_can_be_lengthened(tmp_path, capsys):
    pytest.importorskip("envs.grounding.scenes")
    outputs = ["--outputs", str(tmp_path), "--scenes.keep", str(tmp_path / "kept")]
    teacher = ["--teacher", str(make_encoder(tmp_path / "encoder", window=64)), "--train.corpus", "40"]
    assert main(["pretrain", "debug", "--train.steps", "4", *teacher, *outputs]) == 0
    run_dir = newest(tmp_path)
    assert main(["pretrain", "--resume", str(run_dir), "--train.steps", "6"]) == 0
    assert load_config(Config, run_dir).train.steps == 6
    results = json.loads((run_dir / "results.json").read_text())
    base = load_base(run_dir / "checkpoints/000006/backbone")
    assert results["steps"] == 6 and results["sha256"] == base.sha256
    assert results["held_out"]["world_cm"] == read_metrics(run_dir)[-1]["held_out_world_cm"]
    page = (run_dir / "report.html").read_text()
    assert base.sha256 in page and "held_out_world_cm" in page
    said = capsys.readouterr().out
    assert "median error" in said and "right answers" in said
    assert "among 64" in page and set(load_objectives(run_dir / "checkpoints/000006/backbone").parts) == OWNERS
    assert len(list((tmp_path / "kept").rglob("*.scenes"))) >= 2 + 6, "statistics, held-out scenes, and every step's"


def test_a_preview_is_drawn_and_nothing_is_learned(tmp_path):
    pytest.importorskip("envs.grounding.scenes")
    assert main(["pretrain", "debug", "--preview", "4", "--outputs", str(tmp_path)]) == 0
    with Image.open(newest(tmp_path) / "preview.png") as sheet:
        assert min(sheet.size) > 64
    assert not (newest(tmp_path) / "checkpoints").exists()


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--backbone.patch-px", "24"], "that divides the image size"),
        (["--backbone.use-depth"], "use_depth must be off"),
        (["--preview", "-1"], "preview must be 0 or more"),
        (["--train.augment.shift-fraction", "0.1"], "shift_fraction must be 0"),
        (["--train.questions-per-table", "0"], "questions_per_table must be at least 1"),
        (["--train.weights.caption", "0", "--train.weights.blind", "1"], "needs a weight of them"),
        (["--teacher", "/nowhere/at/all"], "expected a folder with a sentence encoder of transformers at"),
        (["--teacher", "a/b", "--train.weights.teacher", "0"], "a teacher needs a weight above 0"),
        ([f"--train.weights.{name}=0" for name in ALL_BUT_TEACHER], "and there is no teacher"),
        ([f"--train.weights.{name}=0" for name in (*ALL_BUT_TEACHER, "teacher")], "one of them above 0"),
    ],
)
def test_settings_that_make_no_sense_are_refused_before_any_work(tmp_path, capsys, flags, message):
    try:
        status = main(["pretrain", "debug", *flags, "--outputs", str(tmp_path / "out")])
    except SystemExit as refused:  # by the settings themselves
        status = refused.code
    assert status == 2
    assert message in " ".join(capsys.readouterr().err.split())
    assert not (tmp_path / "out").exists()
