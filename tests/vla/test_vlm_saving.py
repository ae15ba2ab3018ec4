"""A policy on a pretrained model keeps what was learned; it finds the model again, and refuses another one."""

import json
import shutil
from importlib.util import find_spec

import pytest
import safetensors.torch
import torch
from tiny_checkpoints import tiny_checkpoint, tiny_tokenizer
from tokenizers import Tokenizer, models
from transformers import PreTrainedTokenizerFast
from vla_inputs import random_observation
from vlm_inputs import vlm_config, vlm_policy_config

from vla.backbones.vlm.locate import FOLDERS_VARIABLE, locate
from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.mlp import MLPConfig
from vla.model import VLA
from vla.saving import CONFIG_FILE, WEIGHTS_FILE, load_vla, save_vla

LORA = pytest.param("lora", marks=pytest.mark.skipif(find_spec("peft") is None, reason="needs the extra peft"))


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    return tiny_checkpoint(tmp_path_factory.mktemp("base"), "llava")


def disturbed(model):
    """As if it had learned."""
    torch.manual_seed(5)
    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.requires_grad:
                parameter.add_(0.05 * torch.randn_like(parameter))
    return model.eval()


@pytest.fixture(scope="module")
def saved_once(tmp_path_factory, base):
    folder = tmp_path_factory.mktemp("policy")
    save_vla(disturbed(VLA(vlm_policy_config(base))), folder)
    return folder


@pytest.fixture
def saved(saved_once, tmp_path):
    return shutil.copytree(saved_once, tmp_path / "policy")


@pytest.mark.parametrize("head", [BridgeConfig(heads=2), MLPConfig(width=16)], ids=["bridge", "mlp"])
@pytest.mark.parametrize("tuning", ["frozen", LORA, "full"])
def test_what_was_learned_comes_back_bit_for_bit(tmp_path, base, tuning, head):
    model = disturbed(VLA(vlm_policy_config(base, head, tuning=tuning, lora_rank=2)))
    save_vla(model, tmp_path)
    names = set(safetensors.torch.load_file(tmp_path / WEIGHTS_FILE))
    of_base = {name for name in names if name.startswith("backbone.model.")}
    expected = {"frozen": set(), "lora": {n for n in of_base if ".lora_" in n}, "full": of_base}[tuning]
    assert of_base == expected and (tuning == "frozen" or of_base)
    loaded = load_vla(tmp_path)
    assert loaded.config == model.config and len(loaded.config.backbone.sha256) == 64
    observation = random_observation(model.backbone)
    assert model.act(observation).equal(loaded.act(observation))


def test_the_whole_model_needs_its_checkpoint_no_more(tmp_path, base):
    gone = shutil.copytree(base, tmp_path / "base")
    model = disturbed(VLA(vlm_policy_config(gone, tuning="full")))
    save_vla(model, tmp_path / "policy")
    shutil.rmtree(gone)
    observation = random_observation(model.backbone)
    assert load_vla(tmp_path / "policy").act(observation).equal(model.act(observation))


def test_a_config_survives_json(base):
    config = VLA(vlm_policy_config(base)).config
    assert VLAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.to_dict()["backbone"]["type"] == "vlm"


def test_another_model_of_the_same_sizes_is_refused(saved, base, tmp_path):
    other = tiny_checkpoint(tmp_path, "llava", seed=1)
    with pytest.raises(CheckpointError, match=r"others than those that were learned with: their hash is .*, expected"):
        load_vla(at(saved, other))


def test_a_model_of_another_family_is_refused(saved, tmp_path):
    other = tiny_checkpoint(tmp_path, "paligemma")
    with pytest.raises(CheckpointError, match=r"the policy learned on a llava, .* holds a paligemma"):
        load_vla(at(saved, other))


def test_a_checkpoint_that_has_gone_is_told(saved):
    with pytest.raises(CheckpointError, match=r"there is no such folder; give a folder that holds config.json"):
        load_vla(at(saved, "/nowhere/at/all"))


def test_a_checkpoint_is_found_where_the_variable_says(saved, base, monkeypatch):
    monkeypatch.setenv(FOLDERS_VARIABLE, str(base.parent))
    assert load_vla(at(saved, f"someone/{base.name}")).config.backbone.checkpoint == f"someone/{base.name}"


def at(policy, base):
    """The saved policy whose config names ``base``."""
    content = json.loads((policy / CONFIG_FILE).read_text())
    content["backbone"]["checkpoint"] = str(base)
    (policy / CONFIG_FILE).write_text(json.dumps(content))
    return policy


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("backbone.queries"), "lacks 1 tensors, among them backbone.queries"),
        (lambda w: w.update({"backbone.extra": torch.zeros(1)}), "that the network lacks, among them backbone.extra"),
        (
            lambda w: w.update({"backbone.queries": torch.zeros(3, 64)}),
            r"expected backbone.queries as .*\(4, 64\).*got .*\(3, 64\)",
        ),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, message):
    weights = safetensors.torch.load_file(saved / WEIGHTS_FILE)
    change(weights)
    safetensors.torch.save_file(weights, saved / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=message):
        load_vla(saved)


def test_another_tokenizer_is_refused(saved):
    PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), eos_token="<eos>").save_pretrained(saved / "backbone")
    with pytest.raises(CheckpointError, match=r"cuts texts otherwise .* than the one that the policy learned with"):
        load_vla(saved)


@pytest.mark.parametrize("name", ["config.json", "tokenizer.json", "backbone.json"])
def test_a_damaged_file_is_named(saved, name):
    path = saved / "backbone" / name
    path.write_bytes(path.read_bytes()[:20])
    with pytest.raises(CheckpointError, match="backbone"):
        load_vla(saved)


@pytest.fixture
def copied(base, tmp_path):
    return shutil.copytree(base, tmp_path / "copied")


def build(folder, **fields):
    return vlm_config(folder, **fields).build(state_dim=3, views=1, image_size_px=(8, 8))


def test_missing_weights_are_named(copied):
    path = copied / "model.safetensors"
    weights = safetensors.torch.load_file(path)
    lost = next(name for name in weights if "q_proj" in name and "vision" not in name)
    del weights[lost]
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"lack 1 tensors, among them .*q_proj"):
        build(copied)


def test_weights_that_the_network_lacks_are_left_out_and_told(copied, caplog):
    path = copied / "model.safetensors"
    before = build(copied).config.sha256
    weights = safetensors.torch.load_file(path) | {"model.language_model.layers.9.mlp.up_proj.weight": torch.ones(2, 2)}
    safetensors.torch.save_file(weights, path, metadata={"format": "pt"})
    assert build(copied).config.sha256 == before
    assert "left out 1 tensors" in caplog.text and "layers.9.mlp.up_proj.weight" in caplog.text


def test_a_tokenizer_without_its_words_is_refused(copied):
    """Some classes of transformers make an empty one where files are missing."""
    PreTrainedTokenizerFast(tokenizer_object=Tokenizer(models.BPE()), eos_token="<eos>").save_pretrained(copied)
    with pytest.raises(CheckpointError, match="it has no words, so files are missing"):
        build(copied)


def test_weights_of_other_sizes_are_refused(copied):
    content = json.loads((copied / "config.json").read_text())
    content["text_config"]["intermediate_size"] = 96
    (copied / "config.json").write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="expected the weights of a llava"):
        build(copied)


def test_a_file_cut_short_is_refused(copied):
    path = copied / "model.safetensors"
    path.write_bytes(path.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="expected the weights of a llava"):
        build(copied)


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("model.safetensors", "expected the weights of a llava"),
        ("tokenizer.json", "expected a tokenizer of transformers"),
        ("preprocessor_config.json", "expected the config of an image processor"),
        ("config.json", "it has no config.json; give a folder"),
    ],
)
def test_a_missing_file_is_named(copied, name, message):
    (copied / name).unlink()
    with pytest.raises(CheckpointError, match=message):
        build(copied)


def test_a_model_that_sees_nothing_is_refused(copied):
    (copied / "config.json").write_text(json.dumps({"model_type": "bert"}))
    with pytest.raises(ValueError, match=r"expected a vision-language model of the families florence2, .* got 'bert'"):
        build(copied)


def test_a_tokenizer_of_another_model_is_refused(tmp_path):
    folder = tiny_checkpoint(tmp_path, "smolvlm")
    plain = PreTrainedTokenizerFast(tokenizer_object=tiny_tokenizer(), eos_token="<eos>")
    plain.add_tokens([f"word{i}" for i in range(300)])
    plain.save_pretrained(folder)
    with pytest.raises(ValueError, match=r"the tokenizer is of another model: it has .* the network's embedding 400"):
        build(folder)


def test_an_unknown_id_is_refused_at_once_with_what_to_do(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(CheckpointError, match=r"'nobody/nothing' is no folder.*give a folder that holds config.json"):
        locate("nobody/nothing")


def test_a_checkpoint_that_the_hub_gave_before_needs_no_network(base, tmp_path, monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    commit = "0" * 40
    kept = tmp_path / "models--someone--something"
    (kept / "refs").mkdir(parents=True)
    (kept / "refs" / "main").write_text(commit)
    shutil.copytree(base, kept / "snapshots" / commit)
    assert locate("someone/something").samefile(kept / "snapshots" / commit)
