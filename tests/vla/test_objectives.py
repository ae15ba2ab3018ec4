"""All objectives together: what is left out, what is shared, what is saved, and what they refuse."""

from dataclasses import replace

import pytest
import torch
from vla_inputs import SIZE_PX, STATE_DIM, TINY, telling_nano, told_scene, words_of

from vla.backbones.nano import NanoConfig
from vla.base import BaseConfig, save_base
from vla.checkpoint import CheckpointError
from vla.objectives.matching import Matching
from vla.objectives.material import GroundingTarget, Lessons, Referents
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.saving import OBJECTIVES_FILE, load_objectives, save_parts
from vla.objectives.teaching import TextTeacher
from vla.objectives.telling import Telling
from vla.objectives.together import all_objectives
from vla.scaling import StateScale

CONFIG = NanoConfig(**TINY, max_text_tokens=24)
SENTENCES = ("a red cube", "two balls by the bin")


def together(teacher_dim=0, **weights):
    backbone = CONFIG.build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX, waypoint_dim=3)
    one = torch.ones(3)
    return all_objectives(backbone, ObjectiveWeights(**weights), offset_m=one, scale_m=one, teacher_dim=teacher_dim)


def everything(objectives):
    backbone = objectives.backbone
    target = GroundingTarget(
        point_m=torch.randn(2, 3),
        pixel=2 * torch.rand(2, 2, 2) - 1,
        cover=torch.rand(2, 2, *SIZE_PX) > 0.9,
        seen=torch.ones(2, 2, dtype=torch.bool),
    )
    return replace(
        told_scene(backbone),
        referents=Referents(
            words=words_of(backbone, SENTENCES),
            about=torch.tensor([1, 0]),
            target=target,
            brought=torch.tensor([1]),
            receivers=replace(target, **{name: value[:1] for name, value in vars(target).items()}),
        ),
        lessons=Lessons(
            words=words_of(backbone, SENTENCES), embedding=torch.nn.functional.normalize(torch.randn(2, 6), dim=1)
        ),
    )


def test_the_terms_are_those_of_each_alone_and_the_loss_their_weighed_sum():
    objectives = together(teacher_dim=6).eval()
    material = everything(objectives)
    assert objectives.needs == material.holds == {"referents", "captions", "questions", "lessons"}
    found = objectives(material)
    alone = [part(objectives.backbone, material) for part in objectives.parts.values()]
    assert found.terms.keys() == set().union(*(one.terms for one in alone)) == objectives.weights.keys()
    for one in alone:
        for name, term in {**one.terms, **one.numbers}.items():
            torch.testing.assert_close((found.terms | found.numbers)[name].mean, term.mean)
    expected = sum(getattr(ObjectiveWeights(), name) * term.mean for name, term in found.terms.items())
    torch.testing.assert_close(objectives.loss(found.terms), expected)
    assert not any(term.sum.requires_grad for term in found.numbers.values())


def test_pictures_are_encoded_once():
    objectives = together(teacher_dim=6)
    material, calls = everything(objectives), []
    encoder = objectives.backbone.image_encoder
    encoder.register_forward_hook(lambda *_: calls.append(1))
    objectives(material)
    assert len(calls) == 1
    objectives(replace(material, referents=None, captions=None, questions=None))
    assert len(calls) == 1, "lessons are about no picture"


@pytest.mark.parametrize(
    ("weights", "parts"),
    [
        ({"caption": 0, "answer": 0, "matching": 0}, {"looking", "text_teacher"}),
        ({"point": 0, "pixel": 0, "heatmap": 0, "teacher": 0}, {"telling", "matching"}),
        ({"matching": 0, "caption": 0}, {"looking", "telling", "text_teacher"}),
    ],
)
def test_an_objective_without_a_weight_is_not_there(weights, parts):
    objectives = together(teacher_dim=6, **weights)
    assert set(objectives.parts) == parts
    live = {name for name, value in vars(ObjectiveWeights(**weights)).items() if value}
    assert objectives.weights.keys() == live
    assert objectives(everything(objectives)).terms.keys() >= live
    assert (objectives.get(Matching) is None) == ("matching" not in parts)


def test_the_teacher_is_not_there_without_lessons_to_give():
    assert "text_teacher" not in together().parts
    nothing = dict.fromkeys(("point", "pixel", "heatmap", "caption", "answer", "matching"), 0)
    with pytest.raises(ValueError, match="an objective with a weight above 0, got none"):
        together(**nothing)


@pytest.mark.parametrize(
    ("weights", "message"),
    [
        (dict.fromkeys(vars(ObjectiveWeights()), 0), "one of them above 0"),
        ({"pixel": float("nan")}, "must be 0 or more"),
        ({"matching": -1}, "must be 0 or more"),
        ({"caption": 0, "blind": 1}, "needs a weight of them"),
    ],
)
def test_weights_that_make_no_sense_are_refused(weights, message):
    with pytest.raises(ValueError, match=message):
        ObjectiveWeights(**weights)


def test_a_loss_of_nothing_is_refused():
    with pytest.raises(ValueError, match=r"expected some of the terms \['answer', .*\], got \[\]"):
        together().loss({})


def test_a_teacher_is_followed_in_what_it_says_of_sentences():
    backbone = telling_nano()
    objective = TextTeacher(backbone, ObjectiveWeights(), teacher_dim=6)
    teacher = torch.nn.functional.normalize(torch.randn(2, 6), dim=1)
    material = replace(told_scene(backbone), lessons=Lessons(words=words_of(backbone, SENTENCES), embedding=teacher))
    reached = {name.partition(".")[0] for name in reach(objective, backbone, material)}
    assert reached == {"text_encoder"}
    optimizer = torch.optim.Adam([*backbone.parameters(), *objective.parameters()], lr=3e-3)
    for _ in range(40):
        optimizer.zero_grad()
        found = objective(backbone, material)
        found.terms["teacher"].mean.backward()
        optimizer.step()
    cosine = torch.nn.functional.cosine_similarity(objective.read(backbone, material.lessons.words), teacher)
    assert cosine.min() > 0.95
    assert float(objective(backbone, material).numbers["teacher_cosine"].mean) == pytest.approx(cosine.mean().item())


def reach(objective, backbone, material):
    objective(backbone, material).terms["teacher"].mean.backward()
    return [name for name, p in backbone.named_parameters() if p.grad is not None]


def saved(objectives, directory):
    scale = StateScale(offset=(0.0,) * STATE_DIM, scale=(1.0,) * STATE_DIM)
    config = BaseConfig(
        backbone=CONFIG,
        vocabulary=objectives.backbone.vocabulary,
        cameras=("front", "side"),
        image_size_px=SIZE_PX,
        state_names=tuple("abcde"),
        state=scale,
        waypoint_dims=(0, 1, 2),
    )
    save_base(config, objectives.backbone.state_dict(), directory)
    save_parts(objectives.parts.state_dict(), directory)


def test_what_objectives_own_comes_back_and_says_the_same(tmp_path):
    objectives = together(teacher_dim=6).eval()
    saved(objectives, tmp_path)
    torch.manual_seed(1)
    loaded = load_objectives(tmp_path)
    assert set(loaded.parts) == {"telling", "matching", "text_teacher"}
    material = replace(everything(objectives), referents=None)
    found, again = objectives(material), loaded(material)
    assert again.terms.keys() == {"caption", "answer", "matching", "teacher"}
    for name, term in again.terms.items():
        assert torch.equal(term.mean, found.terms[name].mean)
    assert torch.equal(again.numbers["caption_nll"].mean, found.numbers["caption_nll"].mean)
    asked = material.questions
    told = [
        each.get(Telling).answer(each.backbone, material.read(asked.words), asked.about, longest=4)
        for each in (objectives, loaded)
    ]
    assert torch.equal(*told)


def test_what_objectives_own_is_refused_where_it_is_damaged(tmp_path):
    saved(together(caption=0, answer=0), tmp_path)
    path = tmp_path / OBJECTIVES_FILE
    assert set(load_objectives(tmp_path).parts) == {"matching"}
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(CheckpointError, match="expected what objectives own at"):
        load_objectives(tmp_path)
    save_parts({"matching.bias": torch.zeros(())}, tmp_path)
    with pytest.raises(CheckpointError, match=r"lacks [0-9]+ tensors"):
        load_objectives(tmp_path)
    save_parts({"cooking.bias": torch.zeros(())}, tmp_path)
    with pytest.raises(CheckpointError, match="holds nothing of an objective"):
        load_objectives(tmp_path)
    with pytest.raises(CheckpointError, match="expected a backbone's config"):
        load_objectives(tmp_path / "elsewhere")
