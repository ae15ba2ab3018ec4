"""``vla info`` says what a pretrained model, or a run of ours, is made of."""

import json

import pytest
from tiny_checkpoints import FAMILIES, tiny_checkpoint
from transformers import AutoModelForImageTextToText

from configs.cli import main
from vla.backbones.nano import NanoConfig
from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.size import model_size
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.model import VLA
from vla.saving import save_vla


def told(capsys, *words):
    assert main(["info", *map(str, words), "--json"]) == 0
    return json.loads(capsys.readouterr().out)


@pytest.mark.parametrize("family", ["smolvlm", "qwen2_5_vl", "gemma3", "llava-clip"])
def test_parts_add_up_to_the_model(tmp_path, capsys, family):
    folder = tiny_checkpoint(tmp_path, family)
    about = told(capsys, folder)
    whole = AutoModelForImageTextToText.from_pretrained(folder).model
    assert sum(about["parts"].values()) == sum(p.numel() for p in whole.parameters())
    assert "embedding of words" in about["parts"] and about["facts"]["family"] in FAMILIES


@pytest.mark.parametrize("tuning", ["frozen", "lora", "full"])
def test_what_learns_is_counted(tmp_path, tuning):
    config = VLMConfig(checkpoint=str(tiny_checkpoint(tmp_path, "llava")), tuning=tuning, lora_rank=4)
    size = model_size(config)
    d, hidden, kv = 64, 128, 32
    per_layer = 2 * (d + d) + 2 * (d + kv) + 3 * (d + hidden)
    assert size.learned(config) == {"frozen": 0, "lora": 3 * 4 * per_layer, "full": size.parameters}[tuning]
    acting, training = size.acting_bytes(config, 2, 0, cuda=False), size.training_bytes(config, 2, 0, 8, cuda=False)
    assert 4 * size.parameters < acting < training
    assert size.acting_bytes(config, 2, 0, cuda=True) <= acting


def test_memory_grows_with_what_is_asked(tmp_path, capsys):
    folder = tiny_checkpoint(tmp_path, "smolvlm")
    small = told(capsys, folder, "--batch-size", 4)["memory_bytes"]["training 4 at once, CPU"]
    large = told(capsys, folder, "--batch-size", 8)["memory_bytes"]["training 8 at once, CPU"]
    again = told(capsys, folder, "--batch-size", 8, "--gradient-checkpointing")["memory_bytes"]
    assert again["training 8 at once, CPU"] < large and small < large


def policy_in(folder, backbone):
    config = VLAConfig(
        backbone=backbone,
        head=BridgeConfig(heads=2),
        cameras=("front", "wrist"),
        image_size_px=(32, 32),
        state_dim=3,
        action_dim=2,
        horizon=4,
    )
    vla = VLA(config)
    save_vla(vla, folder)
    (folder / "policy.json").write_text("{}")
    return vla


def test_a_policy_says_what_it_keeps(tmp_path, capsys):
    base = tiny_checkpoint(tmp_path / "base", "llava")
    vla = policy_in(tmp_path / "policy", VLMConfig(checkpoint=str(base), tuning="frozen", n_queries=4))
    about = told(capsys, tmp_path / "policy")
    assert sum(about["kept"].values()) == sum(weight.numel() for weight in vla.kept().values())
    assert about["kept"]["backbone.queries"] == 4 * 64 and "backbone.model" not in about["kept"]
    assert main(["info", str(tmp_path / "policy")]) == 0
    assert "in the policy head" in capsys.readouterr().out


def test_a_policy_on_nano_says_its_parts(tmp_path, capsys):
    vla = policy_in(tmp_path, NanoConfig(weights="fresh", width=32, depth=1, heads=2, max_text_tokens=8))
    assert sum(told(capsys, tmp_path)["parts"].values()) == sum(p.numel() for p in vla.parameters())


def test_what_is_no_model_is_refused(tmp_path, capsys):
    assert main(["info", str(tmp_path)]) == 2
    assert "it has no config.json; give a folder that holds config.json" in capsys.readouterr().err
