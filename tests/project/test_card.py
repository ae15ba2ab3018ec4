"""Shipping what a run has learned, and the model card that is printed from its record."""

import importlib
import json
import shutil

import pytest

from configs.cli import main
from configs.machine import CHECKOUT
from configs.pretraining import Config
from configs.run_directory import load_config
from vla import shipped
from vla.backbones.nano import NanoConfig
from vla.base import load_base
from vla.checkpoint import CheckpointError

FEW = ["--scenes.tasks", "pick", "--train.tables", "2", "--train.statistics-tables", "4"]
OFTEN = ["--train.evaluate-every", "1", "--train.log-every", "1"]
PAGE = CHECKOUT / "docs" / "models" / "nano.md"


@pytest.fixture(scope="module")
def card(benchmarks):
    return importlib.import_module("card")


def pretrained(outputs, preset):
    steps = ["--train.steps", "2", "--train.held-out-tables", "3"]
    assert main(["pretrain", preset, *FEW, *OFTEN, *steps, "--outputs", str(outputs)]) == 0
    (run_dir,) = outputs.glob("pretrain/*/*")
    return run_dir


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    return pretrained(tmp_path_factory.mktemp("outputs"), "nano")


def test_a_run_is_shipped_with_a_record_that_the_card_is_printed_from(card, run_dir, tmp_path, monkeypatch):
    folder = tmp_path / "nano"
    card.ship(run_dir, folder)
    base = load_base(folder)
    assert base.sha256 == load_base(run_dir / "checkpoints/000002/backbone").sha256
    page = card.card(folder)
    held_out = json.loads((run_dir / "results.json").read_text())["held_out"]
    assert base.sha256 in page and f"| {held_out['world_cm_median']:.2f} cm |" in page
    assert (
        "| loss |" in page
        and "point 10, pixel 1" in page
        and "4, none twice" in page
        and "rendered tables of pick, robot panda" in page
    )
    assert page.count("\n| 1 |") == page.count("\n| 2 |") == 1
    assert str(tmp_path) not in page + "".join(path.read_text() for path in folder.glob("*.json"))
    assert load_config(Config, folder / "run.json").train == load_config(Config, run_dir).train
    monkeypatch.setattr(shipped, "FOLDER", folder)
    NanoConfig(weights="shipped").build(state_dim=17, views=2, image_size_px=(64, 64), waypoint_dim=3)


def test_the_record_belongs_to_its_weights(card, run_dir, tmp_path):
    with pytest.raises(CheckpointError, match="lacks its pre-trained backbone"):
        card.card(tmp_path / "nothing")
    card.ship(run_dir, tmp_path / "nano")
    record = tmp_path / "nano/record.json"
    record.write_text(json.dumps(json.loads(record.read_text()) | {"sha256": "f" * 64}))
    with pytest.raises(ValueError, match=r"the record in .* is of f{64}, the weights are"):
        card.card(tmp_path / "nano")


def test_what_is_not_finished_is_not_shipped(card, run_dir, tmp_path):
    begun = shutil.copytree(run_dir, tmp_path / "begun", symlinks=True)
    (begun / "results.json").unlink()
    with pytest.raises(ValueError, match="expected a finished run of 2 steps"):
        card.ship(begun, tmp_path / "nano")
    assert not (tmp_path / "nano").exists()


@pytest.mark.slow
def test_another_network_is_not_shipped(card, tmp_path):
    with pytest.raises(ValueError, match="channels: 8 there, 32 now"):
        card.ship(pretrained(tmp_path / "small", "debug"), tmp_path / "nano")
    assert not (tmp_path / "nano").exists()


def test_the_page_is_the_one_that_is_printed(card):
    if not shipped.FOLDER.exists():
        pytest.skip("the package holds no weights yet")
    assert PAGE.read_text(encoding="utf-8") == card.card()
