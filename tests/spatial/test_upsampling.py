"""Convex upsampling against its formula, written out."""

import numpy as np
import pytest
import torch

from vla.spatial.upsampling import ConvexUpsampler, convex_upsampled


def upsampled_by_hand(coarse, logits, factor):
    """Every fine value by itself: the softmax of its nine weights, over the 3 x 3 about its cell."""
    rows, columns = coarse.shape
    fine = np.zeros((rows * factor, columns * factor))
    for y in range(rows * factor):
        for x in range(columns * factor):
            row, column, inner = y // factor, x // factor, (y % factor) * factor + x % factor
            weights = np.exp(logits[[k * factor**2 + inner for k in range(9)], row, column])
            around = [
                coarse[min(max(row + dy, 0), rows - 1), min(max(column + dx, 0), columns - 1)]
                for dy in (-1, 0, 1)
                for dx in (-1, 0, 1)
            ]
            fine[y, x] = (weights / weights.sum()) @ around
    return fine


@pytest.mark.parametrize("factor", [1, 2, 4])
def test_every_value_is_the_weighted_mean_of_its_nine(factor):
    coarse, logits = torch.randn(2, 5, 6), torch.randn(2, 9 * factor**2, 5, 6)
    fine = convex_upsampled(coarse, logits, factor)
    for each in range(2):
        expected = upsampled_by_hand(coarse[each].double().numpy(), logits[each].double().numpy(), factor)
        np.testing.assert_allclose(fine[each], expected, atol=1e-5)


def test_it_is_rafts_inside_of_the_picture():
    """With RAFT's own arrangement of the weights, as in the paper: neighbour, then row and column within the cell."""
    factor, coarse, logits = 3, torch.randn(1, 6, 6), torch.randn(1, 9 * 9, 6, 6)
    weights = logits.view(1, 1, 9, factor, factor, 6, 6).softmax(dim=2)
    around = torch.nn.functional.unfold(coarse[:, None], 3, padding=1).view(1, 1, 9, 1, 1, 6, 6)
    rafts = (weights * around).sum(dim=2).permute(0, 1, 4, 2, 5, 3).reshape(1, 18, 18)
    inside = slice(factor, -factor)
    torch.testing.assert_close(convex_upsampled(coarse, logits, factor)[:, inside, inside], rafts[:, inside, inside])


def test_a_constant_stays_one():
    network = ConvexUpsampler(8, 4, width=16)
    fine = network(torch.full((3, 5, 7), 2.5), 10 * torch.randn(3, 8, 5, 7))
    torch.testing.assert_close(fine, torch.full((3, 20, 28), 2.5))


def test_values_stay_between_those_that_they_are_means_of():
    fine = ConvexUpsampler(8, 4, width=16)(coarse := torch.randn(2, 6, 6), torch.randn(2, 8, 6, 6))
    assert fine.min() >= coarse.min() and fine.max() <= coarse.max()


def test_it_learns_where_an_edge_is():
    """A disc whose edge the features show: 3 px of one coarse cell in the fine picture."""
    y, x = torch.meshgrid(torch.arange(24) + 0.5, torch.arange(24) + 0.5, indexing="ij")
    disc = ((x - 11).square() + (y - 13).square() < 50).float()[None]
    features = (
        disc.view(1, 8, 3, 8, 3).permute(0, 2, 4, 1, 3).flatten(1, 2)
    )  # which of a cell's 9 pixels are of the disc
    coarse = features.mean(dim=1)
    network = ConvexUpsampler(9, 3, width=32)
    optimizer = torch.optim.Adam(network.parameters(), lr=3e-2)
    for _ in range(60):
        loss = (network(coarse, features) - disc).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    smooth = torch.nn.functional.interpolate(coarse[:, None], scale_factor=3, mode="bilinear")[:, 0]
    assert loss < 0.5 * (smooth - disc).square().mean()


def test_weights_that_do_not_fit_the_factor_are_refused():
    with pytest.raises(ValueError, match="9 · 2² weights per cell, got 9"):
        convex_upsampled(torch.zeros(1, 3, 3), torch.zeros(1, 9, 3, 3), 2)
    with pytest.raises(ValueError, match="factor from 1 on, got 0"):
        ConvexUpsampler(4, 0, width=8)
