"""Learning to tell: what tokens may attend to, losses against closed forms, answers token by token, PRIOR's weights."""

from dataclasses import replace

import pytest
import torch
from vla_inputs import TINY, TOLD, random_observation, telling_nano, told_scene, words_of

from vla.backbone import Backbone
from vla.objectives.material import blind
from vla.objectives.objective import ObjectiveWeights
from vla.objectives.telling import Telling, improbability


def telling(backbone, **weights):
    return Telling(backbone, ObjectiveWeights(**weights))


def hidden(backbone, material, told, seen=None):
    observation, n = material.read(material.questions.words), len(told)
    return backbone.tell(observation, material.questions.about, told, torch.ones(n, told.shape[1]).bool(), seen)


def test_told_tokens_attend_to_the_prefix_and_to_those_before_them():
    backbone = telling_nano().eval()
    material, told = told_scene(backbone), torch.randn(3, 5, TINY["width"])
    before = hidden(backbone, material, told)
    later = told.clone()
    later[:, 3:] += torch.randn(3, 2, TINY["width"])
    after = hidden(backbone, material, later)
    assert torch.equal(after[:, :3], before[:, :3])
    assert (after[:, 3:] - before[:, 3:]).norm(dim=-1).min() > 1e-3
    first = told.clone()
    first[:, 0] += torch.randn(3, TINY["width"])
    assert (hidden(backbone, material, first) - before).norm(dim=-1).min() > 1e-4, "all later ones hear of it"
    for changed in (
        replace(material, images=1 - material.images),
        replace(material, state=material.state + 1),
        replace(material, questions=replace(material.questions, words=words_of(backbone, ["the bin"] * 3))),
    ):
        assert (hidden(backbone, changed, told) - before).norm(dim=-1).min() > 1e-5


def test_what_is_told_of_shared_pictures_is_as_if_each_text_had_its_own():
    backbone = telling_nano(frames=2).eval()
    observation = random_observation(backbone, frames=2)
    observation.view_mask[1, 1, 0] = False
    about, told = torch.tensor([1, 0, 1]), torch.randn(3, 4, TINY["width"])
    text, text_mask = backbone.tokenize(("a", "the red cube", "b"))
    shared = replace(observation, text=text, text_mask=text_mask)
    apart = replace(shared, **{name: getattr(shared, name)[about] for name in ("images", "view_mask", "state")})
    mask = torch.ones(3, 4).bool()
    one = backbone.tell(shared, about, told, mask)
    torch.testing.assert_close(one, backbone.tell(apart, torch.arange(3), told, mask))
    unpainted = replace(shared, images=torch.zeros_like(shared.images))
    torch.testing.assert_close(one, backbone.tell(unpainted, about, told, mask, backbone.see(shared)))


def test_padding_changes_nothing():
    backbone = telling_nano().eval()
    objective = telling(backbone)
    material = told_scene(backbone)
    both = objective.surprise(backbone, material.silent(2), torch.arange(2), material.captions.told)
    alone = words_of(backbone, TOLD[1:], ended=True)
    single = objective.surprise(backbone, material.silent(1), torch.tensor([1]), alone)
    torch.testing.assert_close(both[1:, : single.shape[1]], single)


def test_the_loss_is_the_mean_surprise_of_the_tokens_and_of_the_end():
    backbone = telling_nano().eval()
    objective, material = telling(backbone), told_scene(backbone)
    found = objective(backbone, material)
    asked = material.questions
    ids, mask = asked.answers.ids, asked.answers.mask
    log_p = objective.log_probabilities(backbone, material.read(asked.words), asked.about, ids, mask)
    torch.testing.assert_close(log_p.exp().sum(-1), torch.ones(ids.shape))
    expected = [-log_p[i, j - 1, ids[i, j]] for i in range(3) for j in range(1, int(mask[i].sum()))]
    assert ids[1, int(mask[1].sum()) - 1] == backbone.end_id, "the end is learned too"
    assert int(found.terms["answer"].count) == len(expected)
    torch.testing.assert_close(found.terms["answer"].mean, torch.stack(expected).mean())
    torch.testing.assert_close(found.numbers["caption_nll"].mean, found.terms["caption"].mean.detach())
    assert "blind" not in found.terms


def test_only_what_has_a_weight_and_is_there_is_computed():
    backbone = telling_nano()
    material = told_scene(backbone)
    assert telling(backbone, answer=0)(backbone, material).terms.keys() == {"caption"}
    assert telling(backbone, caption=0)(backbone, material).terms.keys() == {"answer"}
    assert telling(backbone, caption=0).needs == {"questions"}
    nothing = replace(material, captions=None, questions=None)
    assert telling(backbone)(backbone, nothing).terms == {}


def test_a_token_counts_by_how_improbable_it_is_without_pictures():
    backbone = telling_nano().eval()
    objective, material = telling(backbone, blind=0.1), told_scene(backbone)
    found = objective(backbone, material)
    told, about = material.captions.told, material.captions.about
    mask = told.mask[:, 1:]
    seeing = objective.surprise(backbone, material.silent(2), about, told)
    unseeing = objective.surprise(backbone, blind(material.silent(2)), about, told)
    other = replace(material, images=torch.rand_like(material.images))
    torch.testing.assert_close(unseeing, objective.surprise(backbone, blind(other.silent(2)), about, told))
    improbable = 1 - (-unseeing).exp()
    weights = improbable / improbable[mask].mean()
    torch.testing.assert_close(found.terms["caption"].mean, (weights * seeing)[mask].mean())
    torch.testing.assert_close(found.terms["blind"].mean, unseeing[mask].mean())
    torch.testing.assert_close(found.numbers["caption_nll"].mean, seeing[mask].mean())
    weighed = improbability(unseeing, mask)
    assert not weighed.requires_grad and weighed[mask].mean() == pytest.approx(1.0)
    certain = improbability(torch.zeros(2, 3), torch.ones(2, 3).bool())
    assert certain.abs().max() == 0, "what language alone foretells counts nothing"


def test_it_learns_to_answer_by_what_it_sees():
    backbone = telling_nano()
    objective = telling(backbone)
    material = told_scene(backbone)
    asked = replace(material.questions, words=words_of(backbone, ["what is it?"] * 2), about=torch.arange(2))
    answers = ("a red cube in a bin", "two")
    asked = replace(asked, answers=words_of(backbone, answers, ended=True))
    material = replace(material, captions=None, questions=asked)
    optimizer = torch.optim.Adam([*backbone.parameters(), *objective.parameters()], lr=3e-3)
    for _ in range(60):
        optimizer.zero_grad()
        objective(backbone, material).terms["answer"].mean.backward()
        optimizer.step()
    told = objective.answer(backbone, material.read(asked.words), asked.about, longest=12)
    assert backbone.read(told) == list(answers)
    assert (told[1] == backbone.end_id).sum() > 1, "it has ended and stays silent while the other one is told"
    cut = objective.answer(backbone, material.read(asked.words), asked.about, longest=2)
    assert cut.shape == (2, 2) and torch.equal(cut, told[:, :2])


def test_more_than_the_window_holds_is_refused():
    backbone = telling_nano(max_text_tokens=6)
    objective, material = telling(backbone), told_scene(backbone, ("a b",) * 2, ("b a",) * 2)
    long = words_of(backbone, ["the red cube left of the blue bin"], ended=True)
    with pytest.raises(ValueError, match=r"at most 6 tokens to tell, got \d+"):
        objective.surprise(backbone, material.silent(1), torch.tensor([0]), long)


class Mute(Backbone):
    """One that can but read."""

    width, text_window = 8, 4

    def tokenize(self, texts, ended=False):
        raise NotImplementedError

    def lost_words(self, text):
        raise NotImplementedError

    def forward(self, observation):
        raise NotImplementedError


def test_a_backbone_that_cannot_tell_is_refused():
    with pytest.raises(TypeError, match="Mute shows no embeddings of its vocabulary"):
        telling(Mute())


def test_texts_come_back_from_their_tokens():
    backbone = telling_nano()
    ids, mask = backbone.tokenize(["Two red CUBES!", "", "ja"], ended=True)
    assert backbone.read(ids[:, 1:]) == ["two red cubes!", "", "ja"]
    assert (ids[torch.arange(3), mask.sum(dim=1) - 1] == backbone.end_id).all()
    plain, plain_mask = backbone.tokenize(["Two red CUBES!", "", "ja"])
    assert torch.equal(mask.sum(dim=1), plain_mask.sum(dim=1) + 1)
    assert torch.equal(plain[plain_mask], ids[:, :-1][plain_mask])
