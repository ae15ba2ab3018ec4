"""Each further objective against its formula, and what it changes of a network: nothing but what it learns."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from vla_inputs import ACTION_DIM, HORIZON, STATE_DIM, random_observation, random_target, tiny_config

from vla.heads.bridge import BridgeConfig
from vla.heads.flow import FlowConfig
from vla.heads.gaussian import GaussianConfig
from vla.heads.mapper import MapperConfig
from vla.heads.mlp import MLPConfig
from vla.heads.tokens import TokensConfig
from vla.model import VLA
from vla.objectives import LossWeights
from vla.objectives.align import HIDDEN, Align, check_alignment
from vla.objectives.embedding import (
    CELLS,
    PICTURE,
    SENTENCE,
    Cosine,
    CosineConfig,
    Layers,
    LayersConfig,
    Predictor,
    info_nce,
)
from vla.objectives.surprise import HISTORY, Surprise, SurpriseConfig, improbability
from vla.saving import load_vla, save_vla

HEADS = {
    "bridge": BridgeConfig(heads=2),
    "mlp": MLPConfig(width=16),
    "mapper": MapperConfig(width=16),
    "gaussian": GaussianConfig(mean="mlp", width=16),
    "tokens": TokensConfig(bins=16),
    "flow": FlowConfig(width=16, heads=2, steps=3),
}


def network(head="mapper"):
    torch.manual_seed(0)
    return VLA(tiny_config(HEADS[head])).eval()


def target_of_lengths(*lengths):
    target = random_target(len(lengths))
    for row, length in enumerate(lengths):
        target.valid[row, length:] = False
    return target


def learn(vla, name, objective, taught, lengths=(HORIZON, 1)):
    """The loss of one objective alone, its numbers, and what the head saw."""
    vla.objectives[name] = objective
    observation = random_observation(vla.backbone)
    weights = LossWeights(action=0, waypoint=0, objectives={name: 1.0})
    loss, numbers = vla.loss(observation, target_of_lengths(*lengths), weights, taught)
    return loss.detach(), numbers, vla.head.perceive(vla.backbone, observation)


def by_valid(values, lengths=(HORIZON, 1)):
    return float(np.average(np.asarray(values), weights=lengths))


@pytest.mark.parametrize("k", [HORIZON, 1])
def test_alignment_is_the_mean_square_of_hidden_states(k):
    vla, theirs = network(), torch.randn(2, k, 16)
    loss, numbers, seen = learn(vla, "align", Align(), {HIDDEN: theirs})
    ours = vla.head.hidden(seen).detach()
    ours = ours if k > 1 else ours.sum(dim=1, keepdim=True) / HORIZON
    squares = ((ours - theirs) ** 2).flatten(1).numpy().sum(axis=1) / (k * 16)
    assert float(loss) == pytest.approx(by_valid(squares), rel=1e-5) == float(numbers["align_mse"])


@pytest.mark.parametrize("head", ["bridge", "mlp", "mapper", "gaussian"])
def test_a_chunk_is_read_off_the_hidden_states_by_the_last_layer(head):
    vla = network(head)
    observation = random_observation(vla.backbone)
    hidden, (k, width) = vla.hidden(observation), vla.head.hidden_shape
    assert hidden.shape == (2, k, width)
    torch.testing.assert_close(vla.head.last(hidden).reshape(2, HORIZON, ACTION_DIM), vla.act(observation))


@pytest.mark.parametrize(
    ("head", "shape", "horizon", "message"),
    [
        ("mapper", (HORIZON, 24), HORIZON, "hidden states of 24 numbers, this one's of 16: .*--head.width"),
        ("mapper", (HORIZON, 16), 9, f"horizon of 9 actions, this network of {HORIZON}"),
        ("mlp", (HORIZON, 16), HORIZON, "a hidden state for each action, this head but one"),
        ("flow", (HORIZON, 16), HORIZON, "FlowHead has no hidden states"),
    ],
)
def test_a_teacher_of_other_hidden_states_is_refused(head, shape, horizon, message):
    with pytest.raises(ValueError, match=message):
        check_alignment(network(head), shape, horizon)


def test_layers_predict_embeddings_by_smooth_l1_and_info_nce():
    vla, theirs = network("tokens"), 2 * torch.randn(2, 2, 4, 6)
    config = LayersConfig(layers=(0, -1), heads=2, temperature=0.5)
    objective = Layers(config, vla.backbone, (2, 4, 6))
    loss, numbers, seen = learn(vla, "layers", objective, {CELLS: theirs})
    smooth = contrast = 0.0
    for layer, predictor in zip((0, 1), objective.predictors, strict=True):
        said = predictor(seen.features.hidden[layer], seen.features.mask).detach().numpy()
        gap = np.abs(said - theirs.flatten(1, 2).numpy())
        smooth += by_valid(np.where(gap < 1, gap**2 / 2, gap - 0.5).mean(axis=(1, 2)))
        ours, other = said.reshape(2, -1), theirs.flatten(1).numpy()
        cosine = np.array([[a @ b / np.linalg.norm(a) / np.linalg.norm(b) for b in other] for a in ours])
        odds = np.exp(cosine / 0.5)
        contrast += by_valid(-np.log(odds.diagonal() / odds.sum(axis=1)))
    assert float(numbers["layers_smooth_l1"]) == pytest.approx(smooth, rel=1e-4)
    assert float(numbers["layers_info_nce"]) == pytest.approx(contrast, rel=1e-4)
    assert float(loss) == pytest.approx(smooth + 0.3 * contrast, rel=1e-4)


def test_info_nce_is_lowest_where_each_is_like_its_own():
    theirs = torch.eye(4)
    assert (info_nce(theirs, theirs, 0.1) < info_nce(theirs.roll(1, 0), theirs, 0.1)).all()


def test_cells_are_told_apart_from_the_first_step_on():
    torch.manual_seed(0)
    predictor = Predictor(32, 2, tokens=4, numbers=6)
    said = predictor(torch.randn(8, 7, 32), torch.ones(8, 7, dtype=torch.bool))
    assert said.std(dim=1).mean() > 0.5 * said.std(), "cells differ as much as all that is said"


def test_a_missing_view_does_not_matter_to_a_predictor():
    vla = network()
    predictor = Layers(LayersConfig(heads=2), vla.backbone, (2, 1, 3)).predictors[0]
    hidden, mask = torch.randn(2, 7, 32), torch.ones(2, 7, dtype=torch.bool)
    mask[:, 2:4] = False
    other = hidden.masked_fill(~mask[..., None], 9.0)
    torch.testing.assert_close(predictor(hidden, mask), predictor(other, mask))


def test_what_predicts_the_instruction_has_not_read_it():
    vla, observation = network(), random_observation(network().backbone)
    other = replace(observation, text=observation.text.flip(0), text_mask=observation.text_mask.flip(0))
    read, reread = (vla.backbone(seen).picture for seen in (observation, other))
    assert torch.equal(read, reread) and not torch.equal(read[0], read[1])
    unseen = replace(observation, images=observation.images.flip(0))
    torch.testing.assert_close(vla.backbone(unseen).picture, read.flip(0))


@pytest.mark.parametrize("share", [0.0, 0.3, 1.0])
def test_cosine_is_that_of_pictures_and_words(share):
    vla = network()
    taught = {PICTURE: torch.randn(2, 5), SENTENCE: torch.randn(2, 5)}
    objective = Cosine(CosineConfig(pictures=share), vla.backbone, 5)
    wanted = {name: taught[name] for name in objective.needs}
    assert set(wanted) == {name for name, part in ((PICTURE, share), (SENTENCE, 1 - share)) if part}
    loss, _, features = learn(vla, "cosine", objective, wanted)
    said = objective.out(features.picture).detach().numpy()

    def cosine(name):
        other = taught[name].numpy()
        return [a @ b / np.linalg.norm(a) / np.linalg.norm(b) for a, b in zip(said, other, strict=True)]

    expected = 1 - share * by_valid(cosine(PICTURE)) - (1 - share) * by_valid(cosine(SENTENCE))
    assert float(loss) == pytest.approx(expected, rel=1e-4)


def surprise(strength=1.0):
    torch.manual_seed(1)
    config = SurpriseConfig(history=2, width=8, strength=strength)
    return Surprise(config, state_dim=STATE_DIM, horizon=HORIZON, action_dim=ACTION_DIM)


@pytest.mark.parametrize("strength", [0.0, 0.4, 1.0])
def test_actions_count_by_how_badly_they_are_predicted_blindfold(strength):
    vla, objective = network(), surprise(strength)
    target, history = target_of_lengths(HORIZON, 2), torch.randn(2, 3, STATE_DIM)
    observation = random_observation(vla.backbone)
    seen = vla.head.perceive(vla.backbone, observation)
    learned = objective(vla, seen, target, {HISTORY: history})
    guess = objective.blind(history.flatten(1)).view(2, HORIZON, ACTION_DIM)
    error = np.abs((guess - target.actions).detach().numpy())
    valid = target.valid.numpy()
    improbable = 1 - np.exp(-error / ((error[valid] ** 2).mean() / (2 * error[valid].mean())))
    expected = 1 - strength + strength * improbable / improbable[valid].mean()
    np.testing.assert_allclose(learned.weight.numpy()[valid], expected[valid], rtol=1e-5)
    assert learned.weight.numpy()[valid].mean() == pytest.approx(1.0, rel=1e-5)
    assert float(learned.loss) == pytest.approx(error[valid].mean(), rel=1e-5)

    vla.objectives["surprise"] = objective
    weights = LossWeights(objectives={"surprise": 0.5})
    loss, numbers = vla.loss(observation, target, weights, {HISTORY: history})
    gaps = np.abs((vla.head.act(seen) - target.actions).detach().numpy())[valid]
    assert float(loss) == pytest.approx((expected[valid] * gaps).mean() + 0.5 * error[valid].mean(), rel=1e-4)
    assert float(numbers["l1"]) == pytest.approx(gaps.mean(), rel=1e-5)


def test_numbers_that_are_always_known_change_no_surprise_of_others():
    valid = torch.ones(64, 3, dtype=torch.bool)
    errors = torch.distributions.Exponential(5.0).sample((64, 3, 2))
    alone = improbability(errors, valid)
    beside = improbability(torch.cat([errors, torch.zeros(64, 3, 3)], dim=-1), valid)
    torch.testing.assert_close(beside[..., :2] / beside[..., :2].mean(), alone / alone.mean())
    assert not beside[..., 2:].any()
    expected = 1 - (-errors / errors.mean()).exp()
    torch.testing.assert_close(alone / alone.mean(), expected / expected.mean(), rtol=0.15, atol=0.05)


def test_the_blind_network_learns_from_its_own_loss_alone():
    vla = network()
    vla.objectives["surprise"] = surprise()
    taught = {HISTORY: torch.randn(2, 3, STATE_DIM)}
    gradients = []
    for action in (0.0, 7.0):
        torch.manual_seed(2)
        weights = LossWeights(action=action, waypoint=0, objectives={"surprise": 1.0})
        loss, _ = vla.loss(random_observation(vla.backbone), random_target(2), weights, taught)
        gradients.append(torch.autograd.grad(loss, list(vla.objectives.parameters())))
    assert all(a.equal(b) for a, b in zip(*gradients, strict=True))


@pytest.mark.parametrize("head", HEADS)
def test_every_head_counts_actions_by_their_weights(head):
    vla, target = network(head), target_of_lengths(HORIZON, 2)
    vla.head.fit(random_target(100))
    seen = vla.head.perceive(vla.backbone, random_observation(vla.backbone))

    def loss(weight):
        torch.manual_seed(0)
        return float(vla.head.loss(seen, replace(target, weight=weight))[0])

    ones = torch.ones_like(target.actions)
    assert loss(None) == pytest.approx(loss(ones), rel=1e-6) and loss(2 * ones) == pytest.approx(2 * loss(ones))
    parts = [torch.zeros_like(ones) for _ in range(2)]
    parts[0][..., 0], parts[1][..., 1:] = 1.0, 1.0
    assert loss(parts[0]) + loss(parts[1]) == pytest.approx(loss(ones), rel=1e-5)


def test_what_objectives_own_is_in_no_saved_network(tmp_path):
    vla = network()
    kept = set(vla.kept())
    vla.objectives["surprise"] = surprise()
    assert any(name.startswith("objectives.") for name in vla.state_dict()) and set(vla.kept()) == kept
    save_vla(vla, tmp_path)
    observation = random_observation(vla.backbone)
    assert load_vla(tmp_path).act(observation).equal(vla.act(observation))


def test_weights_of_unknown_objectives_are_refused():
    vla = network()
    with pytest.raises(ValueError, match=r"count the objective 'align', the network learns \[\]"):
        vla.loss(random_observation(vla.backbone), random_target(2), LossWeights(objectives={"align": 1.0}))
    with pytest.raises(ValueError, match=r"one of them above 0, got action 0 and waypoint 0, align 0"):
        LossWeights(action=0, waypoint=0, objectives={"align": 0})
    with pytest.raises(ValueError, match=r"must be 0 or more .*align -1"):
        LossWeights(objectives={"align": -1})


@pytest.mark.parametrize("fields", [{"layers": ()}, {"grid": 0}, {"temperature": 0.0}, {"contrast": -1.0}])
def test_layers_that_make_no_sense_are_refused(fields):
    with pytest.raises(ValueError, match="expected a"):
        LayersConfig(**fields)


def test_layers_that_are_not_there_are_refused():
    with pytest.raises(ValueError, match=r"expected layers in -2…1 of the backbone, got \[5\]"):
        Layers(LayersConfig(layers=(1, 5)), network().backbone, (2, 4, 6))
