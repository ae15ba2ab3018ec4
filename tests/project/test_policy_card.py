"""Shipping a policy, and the card that is printed from its record."""

import importlib
import json

import pytest
import torch
from demonstrations import record

from configs.cli import main
from configs.machine import CHECKOUT
from policies.vla_policy import VLAPolicy

PAGE = CHECKOUT / "docs" / "models" / "tabletop.md"


@pytest.fixture(scope="module")
def policy_card(benchmarks):
    return importlib.import_module("policy_card")


@pytest.fixture(scope="module")
def run_dir(tmp_path_factory):
    outputs = tmp_path_factory.mktemp("outputs")
    store = record(outputs / "store")
    command = ["train", "debug", "--data", str(store), "--image-size-px", "32", "--outputs", str(outputs)]
    assert main([*command, "--train.steps", "2"]) == 0
    (run_dir,) = outputs.glob("train/*/*")
    return run_dir


@pytest.fixture
def results(tmp_path):
    """What vla eval leaves, as far as the card reads it."""
    success = {"value": 0.5, "lo": 0.25, "hi": 0.75}
    line = {"task": "reach", "perturbation": None, "instructions": "given", "success": success, "episodes": 8}
    folder = tmp_path / "evaluated"
    folder.mkdir()
    (folder / "results.json").write_text(json.dumps([line]))
    return folder


def test_a_policy_is_shipped_with_a_record_that_the_card_is_printed_from(policy_card, run_dir, results, tmp_path):
    folder = tmp_path / "tabletop"
    policy_card.ship(run_dir, [results], folder)
    ours, theirs = (VLAPolicy.load(path).vla.state_dict() for path in (folder, run_dir))
    assert all(torch.allclose(ours[name], x, rtol=2e-3, atol=1e-4) for name, x in theirs.items())
    page = policy_card.card(folder)
    assert "| reach | usual | given | 50 % | 25 … 75 % | 8 |" in page and "| store | " in page
    assert str(tmp_path) not in page + "".join(path.read_text() for path in folder.glob("*.json"))
    assert "went on from" not in page

    config = run_dir / "config.json"
    whole, first = config.read_bytes(), json.loads((folder / "record.json").read_text())
    config.write_text(json.dumps(json.loads(whole) | {"init_from": "shipped"}))
    try:
        policy_card.ship(run_dir, [results], folder)
    finally:
        config.write_bytes(whole)
    assert f"| the policy that it went on from | `{first['sha256'][:12]}`, revision " in policy_card.card(folder)
    assert json.loads((folder / "record.json").read_text())["before"]["data"] == first["data"]


def test_what_is_not_whole_is_not_shipped(policy_card, run_dir, tmp_path):
    config = run_dir / "config.json"
    content = json.loads(config.read_text())
    whole = config.read_bytes()
    config.write_text(json.dumps(content | {"train": content["train"] | {"steps": 9}}))
    try:
        with pytest.raises(ValueError, match="expected a finished run of 9 steps"):
            policy_card.ship(run_dir, folder=tmp_path / "tabletop")
    finally:
        config.write_bytes(whole)
    policy_card.ship(run_dir, folder=tmp_path / "tabletop")
    record_file = tmp_path / "tabletop" / "record.json"
    record_file.write_text(record_file.read_text().replace('"sha256": "', '"sha256": "0'))
    with pytest.raises(ValueError, match=r"the record in .* is of 0"):
        policy_card.card(tmp_path / "tabletop")


def test_the_page_is_what_the_package_says(policy_card):
    assert PAGE.read_text(encoding="utf-8") == policy_card.card()
