"""Learning to look: losses against closed forms, what they reach, and sentences that share a picture."""

from dataclasses import replace

import pytest
import torch
from torch.nn import functional
from vla_inputs import SIZE_PX, STATE_DIM, TINY, material_of, random_observation

from vla.backbones.nano import NanoConfig
from vla.objectives import Term
from vla.objectives.looking import Looking, near, shares
from vla.objectives.material import GroundingTarget, Referents, Words
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.together import Objectives
from vla.observation import Observation

OFFSET_M, SCALE_M = torch.tensor([0.3, -0.1, 0.5]), torch.tensor([0.2, 0.1, 0.05])
TEXTS = ("the red cube", "the blue block", "the green bin")


def nano(waypoint_dim=3, **fields):
    config = NanoConfig(**{**TINY, **fields})
    return config.build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX, waypoint_dim=waypoint_dim)


def looking(**fields):
    backbone, weights = nano(**fields), ObjectiveWeights(caption=0, answer=0, matching=0)
    return Objectives(backbone, {"looking": Looking(backbone, weights, offset_m=OFFSET_M, scale_m=SCALE_M)})


def judged(objective, observation, about, target, receivers=None):
    material = material_of(objective.backbone, observation)
    words = Words(ids=observation.text, mask=observation.text_mask)
    brought, receivers = (torch.zeros(0, dtype=torch.long), receiving(0)) if receivers is None else receivers
    referents = Referents(words=words, about=about, target=target, brought=brought, receivers=receivers)
    return objective.get(Looking).losses(objective.backbone, material, referents)[:2]


def receiving(m):
    """Receivers that the first view alone sees."""
    seen = torch.tensor([[True, False]]).repeat(m, 1)
    return GroundingTarget(
        point_m=torch.randn(m, 3),
        pixel=2 * torch.rand(m, 2, 2) - 1,
        cover=torch.rand(m, 2, *SIZE_PX) > 0.9,
        seen=seen,
    )


def target(n=3):
    """Things that cover a few pixels; the second view does not see the last one, nor any view the one before."""
    cover = torch.rand(n, 2, *SIZE_PX) > 0.9
    seen = torch.tensor([[True, True], [False, False], [True, False]])[:n]
    return GroundingTarget(point_m=torch.randn(n, 3), pixel=2 * torch.rand(n, 2, 2) - 1, cover=cover, seen=seen)


def test_the_losses_are_what_their_definitions_say():
    objective, wanted = looking(), target()
    observation = random_observation(objective.backbone, TEXTS)
    sight = objective.backbone.look(observation)
    terms, errors = judged(objective, observation, torch.arange(3), wanted)

    point_m = sight.waypoint * SCALE_M + OFFSET_M
    assert {name: int(term.count) for name, term in terms.items()} == {"point": 2, "pixel": 3, "heatmap": 3}
    expected = (point_m - wanted.point_m)[[0, 2]].abs().mean()
    torch.testing.assert_close(terms["point"].mean, expected)
    expected = (sight.position[:, :, 0] - wanted.pixel)[wanted.seen].abs().mean()
    torch.testing.assert_close(terms["pixel"].mean, expected)

    cells = functional.avg_pool2d(wanted.cover.float(), 4)
    given = (cells / cells.sum((-1, -2), keepdim=True))[wanted.seen].flatten(1)
    heat = sight.log_heatmap[:, :, 0][wanted.seen].flatten(1)
    torch.testing.assert_close(heat.exp().sum(1), torch.ones(3))
    torch.testing.assert_close(terms["heatmap"].mean, -(given * heat).sum(1).mean())

    far_m = (point_m - wanted.point_m).norm(dim=1)
    torch.testing.assert_close(errors.world_m[[0, 2]], far_m[[0, 2]])
    half_px = torch.tensor([SIZE_PX[1] / 2, SIZE_PX[0] / 2])
    far_px = ((sight.position[:, :, 0] - wanted.pixel) * half_px).norm(dim=-1)
    torch.testing.assert_close(errors.picture_px[wanted.seen], far_px[wanted.seen])


def test_the_second_keypoint_is_where_things_are_to_be_brought():
    objective, wanted, receivers = looking(), target(), receiving(2)
    observation = random_observation(objective.backbone, TEXTS)
    sight, brought = objective.backbone.look(observation), torch.tensor([2, 0])
    alone, _ = judged(objective, observation, torch.arange(3), wanted)
    terms, _ = judged(objective, observation, torch.arange(3), wanted, (brought, receivers))
    assert int(terms["pixel"].count) == int(alone["pixel"].count) + 2 and terms["point"].sum == alone["point"].sum
    far = (sight.position[brought, 0, 1] - receivers.pixel[:, 0]).abs().mean(dim=-1).sum()
    torch.testing.assert_close(terms["pixel"].sum, alone["pixel"].sum + far)
    heat = sight.log_heatmap[brought, 0, 1]
    expected = -(shares(receivers.cover, sight.log_heatmap[brought, :, 1])[:, 0] * heat).sum()
    torch.testing.assert_close(terms["heatmap"].sum, alone["heatmap"].sum + expected)


def test_a_middle_outside_of_the_picture_pulls_at_no_position():
    """That of a thing of which an edge shows: its heatmap is of what shows, and reaches no farther than the picture."""
    objective, wanted = looking(), target()
    observation = random_observation(objective.backbone, TEXTS)
    pixel = wanted.pixel.clone()
    pixel[0, 0] = torch.tensor([1.3, 0.2])
    terms, errors = judged(objective, observation, torch.arange(3), replace(wanted, pixel=pixel))
    usual, _ = judged(objective, observation, torch.arange(3), wanted)
    assert int(terms["pixel"].count) == int(usual["pixel"].count) - 1
    assert errors.seen.equal(wanted.seen) and not errors.inside[0, 0]
    torch.testing.assert_close(terms["heatmap"].mean, usual["heatmap"].mean)


def test_what_is_seen_nowhere_may_be_anything():
    objective, wanted = looking(), target()
    observation = random_observation(objective.backbone, TEXTS)
    nowhere = float("nan")
    spoiled = replace(
        wanted,
        point_m=wanted.point_m.masked_fill(~wanted.seen.any(1, keepdim=True), nowhere),
        pixel=wanted.pixel.masked_fill(~wanted.seen[..., None], nowhere),
    )
    gradients = []
    for given in (wanted, spoiled):
        objective.zero_grad()
        terms, errors = judged(objective, observation, torch.arange(3), given)
        sum(term.mean for term in terms.values()).backward()
        gradients.append([p.grad for p in objective.parameters() if p.grad is not None])
        assert all(term.mean.isfinite() for term in near(errors).values())
    for a, b in zip(*gradients, strict=True):
        assert torch.equal(a, b)


def test_errors_are_counted_by_what_is_seen():
    objective, wanted = looking(), target()
    observation = random_observation(objective.backbone, TEXTS)
    sight = objective.backbone.look(observation)
    off_m = torch.tensor([[0.029, 0, 0], [9.0, 0, 0], [0.031, 0, 0]])
    right = replace(
        wanted,
        point_m=(sight.waypoint * SCALE_M + OFFSET_M).detach() + off_m,
        pixel=sight.position[:, :, 0].detach() + torch.tensor([2.9 * 2 / SIZE_PX[1], 0.0]),
    )
    _, errors = judged(objective, observation, torch.arange(3), right)
    numbers = {name: float(term.mean) for name, term in near(errors).items()}
    assert numbers == {
        "world_cm": pytest.approx(3.0, abs=1e-3),
        "within_3cm": pytest.approx(0.5),
        "within_3px": pytest.approx(1.0),
    }


def test_sums_and_counts_make_the_mean_of_the_whole():
    values, mask = torch.randn(10), torch.rand(10) > 0.3
    pieces = [Term.over(v, m) for v, m in zip(values.split(4), mask.split(4), strict=True)]
    torch.testing.assert_close(Term.together(pieces).mean, values[mask].mean())
    assert float(Term.over(values, torch.zeros(10, dtype=torch.bool)).mean) == 0.0


def test_sentences_share_a_picture_as_if_each_had_its_own():
    backbone = nano()
    several = random_observation(backbone, TEXTS[:2])
    about = torch.tensor([1, 0, 1])
    text, text_mask = backbone.tokenize(TEXTS)
    shared = replace(several, text=text, text_mask=text_mask)
    rows = {name: getattr(several, name)[about] for name in ("images", "view_mask", "state")}
    apart = Observation(**rows, text=text, text_mask=text_mask)
    for name, value in vars(backbone.look(apart)).items():
        torch.testing.assert_close(getattr(backbone.look(shared, about), name), value)


def test_pictures_that_are_seen_already_need_not_be_seen_again():
    backbone = nano()
    observation, about = random_observation(backbone, TEXTS), torch.tensor([1, 0, 1])
    seen = backbone.see(observation)
    unpainted = replace(observation, images=torch.zeros_like(observation.images))
    for name, value in vars(backbone.look(observation, about)).items():
        assert torch.equal(getattr(backbone.look(unpainted, about, seen), name), value)


def test_looking_sees_what_the_whole_network_sees():
    backbone = nano(frames=2).eval()
    observation = random_observation(backbone, TEXTS, frames=2)
    observation.view_mask[1, 1, 0] = False
    sight = backbone.look(observation)
    torch.testing.assert_close(backbone(observation).waypoint, sight.waypoint)
    assert sight.position[1, 0].abs().max() == 0 and sight.position[1, 1].abs().max() > 0


@pytest.mark.parametrize("name", ["point", "pixel", "heatmap"])
def test_every_loss_trains_text_images_and_heatmaps(name):
    objective = looking()
    with torch.no_grad():  # at first the words' context adds nothing, and so has no gradient
        for conv in objective.backbone.text_encoder.context:
            conv.weight.normal_(std=0.1)
    observation = random_observation(objective.backbone, TEXTS)
    terms, _ = judged(objective, observation, torch.arange(3), target())
    terms[name].mean.backward()
    reached = {
        n.split(".")[1] for n, p in objective.named_parameters() if p.grad is not None and p.grad.abs().max() > 0
    }
    acts = {"queries", "query_position", "waypoint"}
    looks = {n.split(".")[1] for n, _ in objective.named_parameters()} - acts
    assert reached == (looks | {"waypoint"} if name == "point" else looks)


def test_the_share_of_a_thing_in_each_cell():
    cover = torch.zeros(1, 1, 8, 8, dtype=torch.bool)
    cover[0, 0, 0:4, 2:6] = True
    cells = shares(cover, torch.zeros(1, 1, 2, 2))
    assert cells.tolist() == [[[[0.5, 0.5], [0.0, 0.0]]]]
    assert shares(torch.zeros_like(cover), torch.zeros(1, 1, 2, 2)).abs().max() == 0


def test_a_backbone_that_cannot_say_a_place_is_refused():
    with pytest.raises(ValueError, match="three numbers in metres, the backbone's has 2"):
        looking(waypoint_dim=2)
