"""The waypoint: predicted by the backbone, weighted into the loss, trainable alone."""

import json
from dataclasses import replace

import pytest
import torch
from vla_inputs import random_observation, random_target, tiny_config, tiny_nano

from vla.config import VLAConfig
from vla.heads.regression import masked_l1, waypoint_l1
from vla.objectives import LossWeights


def with_waypoint():
    return replace(tiny_config(), waypoint_dims=(0, 2))


def target_with_waypoint():
    return replace(random_target(2), waypoint=torch.randn(2, 2))


def test_locating_alone_gives_what_the_whole_network_predicts():
    backbone = with_waypoint().build().eval().backbone
    observation = random_observation(backbone)
    torch.testing.assert_close(backbone.locate(observation), backbone(observation).waypoint)


def test_loss_adds_the_weighted_waypoint_to_the_heads():
    model = with_waypoint().build()
    observation, target = random_observation(model.backbone), target_with_waypoint()
    features = model.backbone(observation)
    expected = masked_l1(model.head.act(features), target)[0] + 0.5 * waypoint_l1(features.waypoint, target)[0]
    loss, numbers = model.loss(observation, target, LossWeights(waypoint=0.5))
    torch.testing.assert_close(loss, expected)
    assert set(numbers) == {"l1", "l1_first", "waypoint_l1"}


def test_a_loss_of_weight_0_is_left_out():
    model = with_waypoint().build()
    observation, target = random_observation(model.backbone), target_with_waypoint()
    loss, numbers = model.loss(observation, target, LossWeights(waypoint=0))
    torch.testing.assert_close(loss, masked_l1(model.head.act(model.backbone(observation)), target)[0])
    assert set(numbers) == {"l1", "l1_first"}
    with pytest.raises(ValueError, match="one of them above 0, got action 0 and waypoint 0"):
        LossWeights(action=0, waypoint=0)


def test_samples_count_by_their_valid_steps():
    target = replace(target_with_waypoint(), valid=torch.tensor([[True] * 4, [True, False, False, False]]))
    predicted = torch.randn(2, 2)
    error = (predicted - target.waypoint).abs().mean(dim=1)
    torch.testing.assert_close(waypoint_l1(predicted, target)[0], (4 * error[0] + error[1]) / 5)


def test_locating_trains_what_looks_and_not_the_head():
    model = with_waypoint().build()
    loss, _ = model.loss(random_observation(model.backbone), target_with_waypoint(), LossWeights(action=0))
    loss.backward()
    for part in (model.backbone.text_encoder.token, model.backbone.image_encoder, model.backbone.keypoint_encoder):
        assert any(p.grad is not None and p.grad.abs().max() > 0 for p in part.parameters())
    assert all(p.grad is None for p in model.head.parameters())


def test_config_with_waypoint_survives_json():
    config = with_waypoint()
    assert VLAConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_a_backbone_without_waypoint_says_so():
    backbone = tiny_nano()
    observation = random_observation(backbone)
    assert backbone(observation).waypoint is None
    with pytest.raises(TypeError, match="Nano predicts no waypoint"):
        backbone.locate(observation)


def test_a_missing_or_misshapen_target_is_refused():
    with pytest.raises(ValueError, match=r"target waypoint of shape \(2, 2\), got None"):
        waypoint_l1(torch.zeros(2, 2), random_target(2))
    with pytest.raises(ValueError, match=r"got \(2, 2\)"):
        waypoint_l1(torch.zeros(2, 3), target_with_waypoint())
