"""Learning what belongs together: SigLIP's loss written out, what towers depend on, recall, and that it learns."""

from dataclasses import replace

import pytest
import torch
from torch.nn.functional import logsigmoid
from vla_inputs import telling_nano, told_scene, words_of

from vla.objectives.matching import Matching, recall_at_1
from vla.objectives.objective import ObjectiveWeights


def matching(backbone):
    return Matching(backbone, ObjectiveWeights())


def test_the_loss_is_siglips_and_each_false_caption_is_one_more_negative():
    backbone = telling_nano().eval()
    objective, material = matching(backbone), told_scene(backbone)
    material = replace(material, captions=replace(material.captions, about=torch.tensor([1, 0])))
    found = objective(backbone, material)
    pictures = objective.see(backbone, material)
    said, false = (objective.read(backbone, w) for w in (material.captions.words, material.captions.false))
    torch.testing.assert_close(pictures.norm(dim=1), torch.ones(2))
    total = torch.zeros(())
    for i, own in enumerate((1, 0)):
        for j in range(2):
            logit = 10 * said[i] @ pictures[j] - 10
            total = total - logsigmoid(logit if j == own else -logit)
        total = total - logsigmoid(-(10 * false[i] @ pictures[own] - 10))
    torch.testing.assert_close(found.terms["matching"].mean, total / 2)
    apart = [bool(said[i] @ pictures[own] > false[i] @ pictures[own]) for i, own in enumerate((1, 0))]
    assert float(found.numbers["told_apart"].mean) == sum(apart) / 2


def test_a_table_is_what_its_views_show_and_nothing_else():
    backbone = telling_nano().eval()
    objective, material = matching(backbone), told_scene(backbone)
    pictures = objective.see(backbone, material)
    same = replace(material, state=material.state + 1)
    assert torch.equal(objective.see(backbone, same), pictures)
    assert torch.equal(objective.see(backbone, material, backbone.see(material.silent(2))), pictures)
    material.view_mask[0, 0, 1] = False
    missing = objective.see(backbone, material)
    assert torch.equal(missing[1], pictures[1]) and not torch.allclose(missing[0], pictures[0])
    material.images[0, 0, 1] = torch.rand(material.images.shape[3:])
    torch.testing.assert_close(objective.see(backbone, material), missing)


def test_it_learns_to_tell_a_caption_from_a_false_one():
    backbone = telling_nano()
    objective, material = matching(backbone), told_scene(backbone)
    optimizer = torch.optim.Adam([*backbone.parameters(), *objective.parameters()], lr=2e-3)
    first = float(objective(backbone, material).terms["matching"].mean.detach())
    for _ in range(80):
        optimizer.zero_grad()
        found = objective(backbone, material)
        found.terms["matching"].mean.backward()
        optimizer.step()
    assert float(found.numbers["told_apart"].mean) == 1.0
    assert float(found.terms["matching"].mean.detach()) < 0.5 * first
    said, pictures = objective.read(backbone, material.captions.words), objective.see(backbone, material)
    assert (said @ pictures.T).argmax(dim=1).tolist() == [0, 1]


def test_nothing_is_matched_where_nothing_is_told():
    backbone = telling_nano()
    objective = matching(backbone)
    assert objective(backbone, replace(told_scene(backbone), captions=None)).terms == {}
    assert objective.needs == {"captions"}


def test_recall_counts_whoever_fits():
    pictures = torch.eye(3)
    said = torch.tensor([[1.0, 0, 0], [0.9, 0.1, 0], [0, 0.2, 0.9]])
    fits = torch.tensor([[True, False, False], [False, True, False], [False, False, False]])
    found, heard = recall_at_1(said, pictures, fits)
    assert (float(found.sum), int(found.count)) == (1.0, 3)
    assert (float(heard.sum), int(heard.count)) == (1.0, 2), "no sentence fits the last table, so it does not ask"
    shared = fits | torch.tensor([[True, True, False], [True, True, False], [False, False, False]])
    found, heard = recall_at_1(said, pictures, shared)
    assert float(found.sum) == 2.0 and float(heard.sum) == 1.0


def test_words_beside_a_sentence_change_no_sentence():
    backbone = telling_nano().eval()
    objective = matching(backbone)
    short, both = words_of(backbone, ["a cube"]), words_of(backbone, ["a cube", "a cube left of a red ball"])
    torch.testing.assert_close(objective.read(backbone, both)[:1], objective.read(backbone, short))
    assert objective.read(backbone, both).norm(dim=1).tolist() == pytest.approx([1.0, 1.0])
