"""Token merging against a reference that goes sample by sample, pair by pair; and attention to what was merged."""

import math

import numpy as np
import pytest
import torch
from torch import nn

from vla.backbones.merging import Groups, bipartite_groups, counted, rounds
from vla.backbones.token_reduction import token_reduction


def by_hand(x, metric, size, r, kept=0):
    """What ToMe's algorithm (§3.2) gives for one sample, in lists: tokens, sizes, and who went into each."""
    places = list(range(kept, len(x)))
    a, b = places[::2], places[1::2]

    def cosine(i, j):
        return float(metric[i] @ metric[j] / (np.linalg.norm(metric[i]) * np.linalg.norm(metric[j])))

    there = [j for j in b if size[j] > 0] or b
    edges = []
    for i in a:
        partner = max(there, key=lambda j: cosine(i, j)) if b else None
        likeness = math.inf if size[i] == 0 else cosine(i, partner)
        edges.append((likeness, i, partner))
    edges.sort(key=lambda edge: (-edge[0], edge[1]))
    members = {i: [i] for i in range(len(x))}
    for _, i, partner in edges[: min(r, len(b))]:
        members[partner] += members.pop(i)
    tokens, sizes = [], []
    for i in sorted(members):
        total = sum(size[j] for j in members[i])
        tokens.append(sum(size[j] * x[j] for j in members[i]) / total if total else 0 * x[i])
        sizes.append(total)
    return np.stack(tokens), np.array(sizes), [sorted(members[i]) for i in sorted(members)]


@pytest.mark.parametrize(("n", "r", "kept"), [(8, 3, 0), (9, 4, 0), (9, 100, 0), (10, 2, 1), (2, 1, 0), (7, 3, 2)])
@pytest.mark.parametrize("hidden", [False, True])
def test_matching_is_that_of_the_reference(n, r, kept, hidden):
    generator = torch.Generator().manual_seed(n + r)
    x, metric = (torch.randn(4, n, d, generator=generator, dtype=torch.float64) for d in (5, 3))
    size = torch.randint(1, 5, (4, n), generator=generator).double()
    if hidden:
        size[1, kept + 1 :: 3] = 0
        size[2, kept:] = 0
    groups = bipartite_groups(metric, size, r, kept)
    tokens, total = groups.mean(x, size), groups.total(size)
    for i in range(4):
        wanted, sizes, members = by_hand(x[i].numpy(), metric[i].numpy(), size[i].numpy(), r, kept)
        np.testing.assert_allclose(total[i], sizes)
        np.testing.assert_allclose(tokens[i], wanted, atol=1e-12)
        if size[i].min() > 0:  # what is not there may go anywhere: it adds nothing
            assert [(groups.index[i] == k).nonzero()[:, 0].tolist() for k in range(groups.count)] == members


def test_nothing_is_merged_with_r_0_or_of_one_token():
    x = torch.randn(2, 5, 3)
    for tokens, r in ((x, 0), (x[:, :1], 4)):
        ones = torch.ones(tokens.shape[:2])
        groups = bipartite_groups(tokens, ones, r)
        assert groups.mean(tokens, ones).equal(tokens) and groups.total(ones).equal(ones)


def test_what_is_not_there_leaves_no_trace():
    x, size = torch.randn(1, 8, 4), torch.tensor([[1.0, 1, 0, 1, 1, 0, 1, 1]])
    other = torch.where(size[..., None] > 0, x, 100 * torch.randn_like(x))
    for r in range(1, 5):
        (one, sizes), (two, _) = (
            (groups.mean(y, size), groups.total(size)) for y in (x, other) for groups in [bipartite_groups(y, size, r)]
        )
        assert one[sizes > 0].equal(two[sizes > 0])
        assert sizes.sum() == 6


def test_as_many_rounds_as_it_takes():
    assert rounds(16, 16) == [] and rounds(16, 10) == [6] and rounds(16, 1) == [8, 4, 2, 1] and rounds(9, 3) == [4, 2]


@torch.no_grad()
def test_attention_to_merged_tokens_is_that_to_all_that_they_stand_for():
    """Tokens that are equal give the same answer merged as apart (§3.3)."""
    torch.manual_seed(0)
    distinct, members = torch.randn(2, 3, 8), torch.tensor([0, 0, 1, 2, 2, 2])
    apart, query = distinct[:, members], torch.randn(2, 1, 4, 8)
    size = torch.bincount(members).float().expand(2, -1)
    groups = Groups(index=members.expand(2, -1), count=3)
    torch.testing.assert_close(groups.mean(apart, torch.ones(2, 6)), distinct)
    attend = nn.functional.scaled_dot_product_attention
    whole = torch.cat([apart, torch.ones(2, 1, 8)], dim=1)[:, None]
    merged = torch.cat([distinct, torch.ones(2, 1, 8)], dim=1)[:, None]
    bias = counted(torch.zeros(2, 1, 4, 4), size)
    torch.testing.assert_close(attend(query, merged, merged, attn_mask=bias), attend(query, whole, whole))
    plain = torch.zeros(2, 1, 4, 4)
    assert counted(plain, None) is plain


def test_gradient_goes_to_every_token_by_its_size():
    x = torch.randn(2, 6, 3, requires_grad=True)
    size = torch.tensor([[1.0, 2, 1, 1, 3, 1]]).expand(2, -1)
    groups = bipartite_groups(x, size, 3)
    groups.mean(x, size).sum().backward()
    share = size / groups.total(size).gather(1, groups.index)
    torch.testing.assert_close(x.grad, share[..., None].expand(-1, -1, 3))


def test_a_budget_is_met_by_the_mean_of_neighbouring_cells():
    reduction = token_reduction((4, 6), 2, budget=12, merged=None)
    assert reduction.pooled == (2, 3) and reduction.tokens == 6
    maps = torch.randn(3, 5, 4, 6)
    reduced = reduction.reduced(maps.flatten(2).mT, torch.ones(3, dtype=torch.bool))
    wanted = nn.functional.avg_pool2d(maps, 2).flatten(2).mT
    torch.testing.assert_close(reduced.of(maps.flatten(2).mT), wanted)
    assert reduced.size.equal(torch.ones(3, 6)), "a mean counts for one token"
    assert reduction.cells(reduced)[0].tolist()[:2] == [[0.5, 0.5], [0.5, 2.5]]
    assert token_reduction((4, 4), 1, budget=4, merged=None).pooled == (2, 2)
    assert token_reduction((16, 16), 2, budget=64, merged=None).pooled == (5, 6)
    assert token_reduction((4, 4), 2, budget=32, merged=16) is None


def test_merging_after_averaging_keeps_mean_cells_and_hides_missing_views():
    reduction = token_reduction((4, 4), 2, budget=8, merged=1)
    x = torch.randn(2, 16, 3)
    reduced = reduction.reduced(x, torch.tensor([True, False]))
    torch.testing.assert_close(reduced.of(x)[0, 0], x[0].mean(dim=0))
    assert reduced.size.tolist() == [[4.0], [0.0]]
    assert reduction.cells(reduced).tolist() == [[[1.5, 1.5]], [[-1.0, -1.0]]]


def test_budgets_that_cannot_be_are_refused():
    with pytest.raises(ValueError, match="image_budget must be at least one token of each of 3 views, got 2"):
        token_reduction((4, 4), 3, budget=2, merged=None)
    for merged in (0, 5):
        with pytest.raises(ValueError, match=rf"merged_tokens must lie in 1…4, the tokens of a view, got {merged}"):
            token_reduction((4, 4), 2, budget=8, merged=merged)
