"""The policy that comes with the package: found by its name, small, and one to start from."""

from pathlib import Path

import torch
from demonstrations import record, tiny_network, tiny_training

from configs.presets import nano_tabletop
from policies import vla_policy
from policies.data.dataset import DemonstrationDataset
from policies.imitation.starting import Start
from policies.imitation.trainer import train
from policies.shipped import FOLDER, SHIPPED
from policies.vla_policy import VLAPolicy, find_policy
from vla import shipped
from vla.checkpoint import read_weights, write_weights

LARGEST_BYTES = 12e6


def test_it_is_found_by_its_name_unless_a_folder_has_it(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert find_policy(Path(SHIPPED)) == FOLDER
    VLAPolicy.load(SHIPPED).save(tmp_path / SHIPPED)
    assert find_policy(Path(SHIPPED)).resolve() == tmp_path / SHIPPED


def test_all_weights_of_the_package_are_small():
    files = [*FOLDER.rglob("*.safetensors"), *shipped.FOLDER.rglob("*.safetensors")]
    assert sum(file.stat().st_size for file in files) < LARGEST_BYTES


def test_its_preset_is_a_network_of_its_kind():
    policy, preset = VLAPolicy.load(SHIPPED), nano_tabletop()
    window = policy.vla.config.backbone.max_text_tokens
    assert policy.vla.config.backbone == preset.backbone.__class__(use_cameras=True, max_text_tokens=window)
    assert policy.vla.config.head == preset.head and policy.vla.config.horizon == preset.horizon


def test_weights_of_16_bits_are_widened_when_read(tmp_path):
    numbers = {"x": torch.randn(3, 2), "count": torch.tensor(3)}
    write_weights(tmp_path / "w.safetensors", {"x": numbers["x"].half(), "count": numbers["count"]})
    read = read_weights(tmp_path / "w.safetensors", numbers)
    assert read["x"].dtype == torch.float32 and read["x"].equal(numbers["x"].half().float())
    assert read["count"] == 3


def test_a_run_starts_from_it(tmp_path, monkeypatch):
    store = record(tmp_path / "store")
    train(tmp_path / "run", tiny_training(steps=2), tiny_network(), [store], show_progress=False)
    monkeypatch.setattr(vla_policy, "FOLDER", tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    embodiment = DemonstrationDataset(store).embodiment
    given = Start(policy=Path(SHIPPED)).load(VLAPolicy.load(SHIPPED).vla.config, embodiment)
    saved = VLAPolicy.load(tmp_path / "run").vla.state_dict()
    assert isinstance(given, VLAPolicy) and all(saved[name].equal(x) for name, x in given.vla.state_dict().items())
