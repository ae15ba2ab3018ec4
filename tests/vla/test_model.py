"""A VLA is built from its config, saved, loaded back bit for bit, and refuses what is damaged."""

import json
import os
from dataclasses import replace

import pytest
import safetensors.torch
import torch
from vla_inputs import ACTION_DIM, HORIZON, random_observation, random_target, tiny_config, tiny_nano, with_depth

from vla.checkpoint import CheckpointError
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.model import VLA
from vla.saving import CONFIG_FILE, WEIGHTS_FILE, load_vla, save_vla


@pytest.fixture
def saved(tmp_path):
    model = tiny_config().build()
    save_vla(model, tmp_path / "model")
    return tmp_path / "model"


@pytest.mark.parametrize(
    "head",
    [
        BridgeConfig(heads=2),
        BridgeConfig(heads=2, attention="pro"),
        MLPConfig(width=16),
        GaussianConfig(mean="mlp", width=16),
        TokensConfig(bins=16),
        TokensConfig(binning="fast", vocabulary=64, scale=2.0),
        FlowConfig(width=16, heads=2, steps=2),
    ],
    ids=lambda head: type(head).__name__,
)
def test_save_and_load_is_bit_identical(tmp_path, head):
    model = tiny_config(head).build().eval()
    model.head.fit(random_target(50))
    save_vla(model, tmp_path)
    loaded = load_vla(tmp_path)
    assert loaded.config == model.config and not loaded.training
    for (name, a), (other, b) in zip(model.state_dict().items(), loaded.state_dict().items(), strict=True):
        assert name == other and a.equal(b)
    observation = random_observation(model.backbone)
    assert model.act(observation).equal(loaded.act(observation))
    if not isinstance(head, BridgeConfig | MLPConfig):
        torch.testing.assert_close(loaded.distribution(observation).mode().actions, model.act(observation))


def test_saving_over_a_checkpoint_leaves_two_files(saved):
    save_vla(tiny_config().build(), saved)
    assert sorted(os.listdir(saved)) == [CONFIG_FILE, WEIGHTS_FILE]


def test_config_survives_json():
    config = tiny_config(MLPConfig(width=7, layers=1), use_depth=True, frames=2)
    assert VLAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    assert config.to_dict()["head"] == {"type": "mlp", "width": 7, "layers": 1}


def test_a_network_keeps_what_its_config_says_to_start_from():
    assert VLA(tiny_config(weights="shipped")).config.backbone.weights == "shipped"


def test_act_needs_no_gradient_and_matches_the_head():
    model = tiny_config().build().eval()
    observation = random_observation(model.backbone)
    actions = model.act(observation)
    assert actions.shape == (2, HORIZON, ACTION_DIM) and not actions.requires_grad


def test_training_is_deterministic_under_a_seed():
    def losses():
        torch.manual_seed(11)
        model = tiny_config().build()
        optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2)
        observation, target = random_observation(model.backbone), random_target(2)
        result = []
        for _ in range(5):
            loss, _ = model.loss(observation, target)
            optimiser.zero_grad()
            loss.backward()
            optimiser.step()
            result.append(loss.item())
        return result

    first = losses()
    assert first == losses() and first[-1] < first[0]


def test_depth_cameras_train_too():
    model = tiny_config(use_depth=True).build()
    loss, _ = model.loss(with_depth(random_observation(model.backbone)), random_target(2))
    loss.backward()
    assert model.backbone.keypoint_encoder.position.weight.grad[:, 3:].abs().sum(0).min() > 0


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
def test_a_missing_file_is_named(saved, name):
    (saved / name).unlink()
    with pytest.raises(CheckpointError, match=name):
        load_vla(saved)


@pytest.mark.parametrize("name", [CONFIG_FILE, WEIGHTS_FILE])
@pytest.mark.parametrize("keep", [0.0, 0.3, 0.999])
def test_a_truncated_file_is_refused(saved, name, keep):
    data = (saved / name).read_bytes()
    (saved / name).write_bytes(data[: int(len(data) * keep)])
    with pytest.raises(CheckpointError, match=name):
        load_vla(saved)


def test_noise_instead_of_weights_is_refused(saved):
    (saved / WEIGHTS_FILE).write_bytes(os.urandom(4096))
    with pytest.raises(CheckpointError, match=WEIGHTS_FILE):
        load_vla(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda w: w.pop("head.slots"), "lacks 1 tensors, among them head.slots"),
        (lambda w: w.update({"head.extra": torch.zeros(1)}), "that the network lacks, among them head.extra"),
        (
            lambda w: w.update({"head.slots": torch.zeros(9, 32)}),
            r"expected head.slots as .*\(4, 32\).*got .*\(9, 32\)",
        ),
        (lambda w: w.update({"head.slots": torch.zeros(4, 32).double()}), "expected head.slots as .*float32.*float64"),
    ],
)
def test_weights_of_another_network_are_refused(saved, change, message):
    weights = safetensors.torch.load_file(saved / WEIGHTS_FILE)
    change(weights)
    safetensors.torch.save_file(weights, saved / WEIGHTS_FILE)
    with pytest.raises(CheckpointError, match=message):
        load_vla(saved)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            lambda c: c["head"].update(type="diffusion"),
            r"expected a head type out of \['bridge', 'chat', 'flow', .* 'mlp', 'tokens'\], got 'diffusion'",
        ),
        (
            lambda c: c.update(backbone="nano"),
            r"expected a backbone type out of \['nano', 'nano-text', 'vlm'\], got 'nano'",
        ),
        (lambda c: c["backbone"].update(colour=1), r"backbone 'nano' has no field \['colour'\]"),
        (lambda c: c.pop("horizon"), r"a VLA config lacks the fields \['horizon'\]"),
        (lambda c: c.update(waypoint_weight=0.5), r"a VLA config has no field \['waypoint_weight'\]"),
        (lambda c: c.update(format_version=3), "reads VLA configs of format 1…2, got format 3"),
        (lambda c: c.update(state_dim="5"), "expected state_dim of a VLA config as int, got '5'"),
        (lambda c: c["backbone"].update(use_depth=1), "expected use_depth of backbone 'nano' as bool, got 1"),
        (lambda c: c.update(horizon=0), "expected positive"),
        (lambda c: c.update(cameras=["front", "front"]), "no name twice"),
        (lambda c: c.update(image_size_px=3), CONFIG_FILE),
    ],
)
def test_a_config_that_makes_no_sense_is_refused(saved, change, message):
    config = json.loads((saved / CONFIG_FILE).read_text())
    change(config)
    (saved / CONFIG_FILE).write_text(json.dumps(config))
    with pytest.raises(CheckpointError, match=message):
        load_vla(saved)


def test_a_config_of_an_older_version_loads_with_defaults_for_what_it_lacks(saved):
    config = json.loads((saved / CONFIG_FILE).read_text())
    del config["format_version"], config["waypoint_dims"], config["backbone"]["frames"]
    (saved / CONFIG_FILE).write_text(json.dumps({**config, "waypoint_weight": 1.0}))
    assert load_vla(saved).config == tiny_config()


def test_a_config_that_is_no_object_is_refused(saved):
    (saved / CONFIG_FILE).write_text("[1, 2]")
    with pytest.raises(CheckpointError, match="expected a VLA config as a JSON object"):
        load_vla(saved)


def test_loading_reports_the_views_of_its_cameras(saved):
    model = load_vla(saved)
    wrong = random_observation(tiny_nano(views=3))
    with pytest.raises(ValueError, match="expected images of shape"):
        model.act(replace(wrong, state=wrong.state))


def test_autocast_to_bfloat16_gives_a_finite_loss_near_that_of_float32():
    model = tiny_config().build()
    observation, target = random_observation(model.backbone), random_target(2)
    exact, _ = model.loss(observation, target)
    with torch.autocast("cpu", torch.bfloat16):
        loss, _ = model.loss(observation, target)
    loss.backward()
    assert abs(loss - exact) < 0.05 * exact
