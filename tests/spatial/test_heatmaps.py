"""Heatmaps against closed forms, torch's own losses and the dense lattice that the arg-max spares."""

import math

import numpy as np
import pytest
import torch
from torch.nn import functional
from torch.profiler import ProfilerActivity, profile

from vla.spatial.heatmaps import (
    best_point,
    gaussian_heatmaps,
    heatmap_loss,
    point_targets,
    score,
    soft_cross_entropy,
)
from vla.spatial.projection import CubeViews


def cube_of(scenes):
    centre = torch.tensor([0.3, -0.1, 0.8]).expand(scenes, 3)
    return CubeViews(centre_m=centre, half_m=torch.linspace(0.4, 0.6, scenes))


def points_in(cube, generator, n=1, share=0.95):
    relative = share * (2 * torch.rand(len(cube.half_m), n, 3, generator=generator) - 1)
    return cube.centre_m[:, None] + relative * cube.half_m[:, None, None]


def log_heatmaps(scenes, side, scale, seed=0):
    logits = scale * torch.randn(scenes, 3, side, side, generator=torch.Generator().manual_seed(seed))
    return logits.flatten(2).log_softmax(-1).view_as(logits)


def lattice(cube, side):
    """All side³ points, x slowest."""
    steps = (2 * torch.arange(side) + 1) / side - 1
    relative = torch.cartesian_prod(steps, steps, steps)
    return cube.centre_m[:, None] + relative * cube.half_m[:, None, None]


def test_a_target_is_a_gaussian_cut_off_at_three_sigma():
    position, side, sigma = torch.tensor([[[0.1, -0.4], [0.98, 0.5]]]), 20, 1.7
    found = gaussian_heatmaps(position, side, sigma)[0].numpy()
    for view in range(2):
        u, v = ((position[0, view].numpy() + 1) / 2 * side).tolist()
        expected = np.zeros((side, side))
        for row in range(side):
            for column in range(side):
                distance = math.hypot(column + 0.5 - u, row + 0.5 - v)
                expected[row, column] = math.exp(-(distance**2) / (2 * sigma**2)) if distance <= 3 * sigma else 0
        np.testing.assert_allclose(found[view], expected / expected.sum(), atol=1e-6)
        assert np.array_equal(found[view] > 0, expected > 0)


@pytest.mark.parametrize("sigma_px", [0.25, 1.5, 40.0])
def test_a_target_sums_to_one_wherever_it_is(sigma_px):
    position = 2 * torch.rand(50, 3, 2) - 1
    totals = gaussian_heatmaps(position, 16, sigma_px).sum(dim=(-1, -2))
    torch.testing.assert_close(totals, torch.ones(50, 3))


def test_a_target_outside_of_the_cube_does_not_count():
    cube = cube_of(2)
    outside = cube.centre_m + torch.tensor([[0.0, 0.0, 2.0], [0.0, 0.0, 0.0]])
    targets, counts = point_targets(outside, cube, 24, 1.5)
    assert counts.tolist() == [[False] * 3, [True] * 3]
    assert not targets[0].any() and (targets[1].sum(dim=(-1, -2)) - 1).abs().max() < 1e-5
    term = heatmap_loss(log_heatmaps(2, 24, 1.0), targets, counts)
    assert term.count == 3
    torch.testing.assert_close(term.sum, soft_cross_entropy(log_heatmaps(2, 24, 1.0), targets)[1].sum())
    nowhere = gaussian_heatmaps(torch.tensor([[[math.nan, 0.0], [5.0, 0.0]]]), 24, 1.5)
    assert not nowhere.any()


def test_a_sigma_that_misses_every_pixel_is_refused():
    for sigma_px in (0.0, 0.2, math.nan):
        with pytest.raises(ValueError, match=r"from 0.25 px on"):
            gaussian_heatmaps(torch.zeros(1, 1, 2), 8, sigma_px)


def test_the_loss_is_torchs_cross_entropy_with_probabilities():
    logits = torch.randn(4, 3, 16, 16, requires_grad=True)
    targets, counts = point_targets(points_in(cube_of(4), torch.Generator().manual_seed(1))[:, 0], cube_of(4), 16, 1.5)
    expected = functional.cross_entropy(logits.flatten(2).flatten(0, 1), targets.flatten(2).flatten(0, 1))
    (wanted,) = torch.autograd.grad(expected, logits)
    term = heatmap_loss(logits.flatten(2).log_softmax(-1).view_as(logits), targets, counts)
    (found,) = torch.autograd.grad(term.mean, logits)
    torch.testing.assert_close(term.mean, expected)
    torch.testing.assert_close(found, wanted)


def test_a_pixel_ruled_out_is_no_loss_where_the_target_is_nothing():
    targets = torch.zeros(1, 1, 2, 2)
    targets[..., 0, 0] = 1
    surprise = soft_cross_entropy(torch.tensor([[[[-0.5, -math.inf], [-1.0, -2.0]]]]), targets)
    assert surprise.item() == 0.5


def test_the_score_is_the_mean_of_bilinear_probabilities():
    cube, generator, side = cube_of(2), torch.Generator().manual_seed(0), 9
    maps = log_heatmaps(2, side, 1.0)
    points = points_in(cube, generator, n=20, share=1.2)
    projected = cube.project(points)
    found = score(points, maps, cube)
    for row in range(2):
        for point in range(20):
            total = 0.0
            for view in range(3):
                if projected.seen[row, view, point]:
                    u, v = ((projected.position[row, view, point].double() + 1) / 2 * side - 0.5).tolist()
                    total += bilinear(maps[row, view].double().exp().numpy(), u, v)
            assert found[row, point].item() == pytest.approx(total / 3, abs=1e-6)
    assert (found == 0).any() and (found > 0).any()


def bilinear(picture, u, v):
    """Between the centres of pixels, the outermost of which go on to the edge."""
    u, v = min(max(u, 0), picture.shape[1] - 1), min(max(v, 0), picture.shape[0] - 1)
    left, above = min(int(u), picture.shape[1] - 2), min(int(v), picture.shape[0] - 2)
    x, y = u - left, v - above
    return (picture[above : above + 2, left : left + 2] * np.outer([1 - y, y], [1 - x, x])).sum()


@pytest.mark.parametrize("scale", [0.0, 0.3, 3.0, 10.0])
@pytest.mark.parametrize("seed", range(3))
def test_the_best_point_is_that_of_the_dense_lattice(scale, seed):
    cube, side = cube_of(3), 24
    maps = log_heatmaps(3, side, scale, seed)
    point, value = best_point(maps, cube)
    dense = score(lattice(cube, side), maps, cube)
    torch.testing.assert_close(value, dense.max(dim=1).values, rtol=1e-5, atol=0)
    torch.testing.assert_close(score(point[:, None], maps, cube)[:, 0], value, rtol=1e-5, atol=0)
    if scale:
        expected = lattice(cube, side)[torch.arange(3), dense.argmax(dim=1)]
        assert ((point - expected).abs() < cube.half_m[:, None] / side).all()
    assert torch.equal(best_point(maps, cube)[0], point)
    alone = best_point(maps[1:2], CubeViews(centre_m=cube.centre_m[1:2], half_m=cube.half_m[1:2]))
    assert torch.equal(alone[0][0], point[1])


def test_no_point_between_those_of_the_lattice_is_better():
    cube, maps = cube_of(2), log_heatmaps(2, 8, 2.0)
    anywhere = points_in(cube, torch.Generator().manual_seed(0), n=200_000, share=1.0)
    assert (score(anywhere, maps, cube).max(dim=1).values <= best_point(maps, cube)[1] * (1 + 1e-5)).all()


def test_the_best_point_of_a_points_own_heatmaps_is_within_half_a_pixel_of_it():
    cube, generator, side = cube_of(4), torch.Generator().manual_seed(3), 96
    target = points_in(cube, generator)[:, 0]
    heat, _ = point_targets(target, cube, side, 1.5)
    found, _ = best_point((heat + 1e-12).log(), cube)
    assert ((found - target).abs() <= cube.half_m[:, None] / side * 1.001).all()


@pytest.mark.parametrize("flat", [True, False])
def test_the_best_point_of_large_heatmaps_takes_little_memory(flat):
    maps, cube = log_heatmaps(1, 224, 0.3 if flat else 8.0), cube_of(1)
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        best_point(maps, cube)
    held, most = 0, 0
    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    assert 1e5 < most < 50e6  # bytes; the lattice of 224³ points alone would take 135 MB


def test_heatmaps_with_nan_have_no_best_point():
    maps = log_heatmaps(1, 8, 1.0)
    maps[0, 1, 2, 3] = math.nan
    with pytest.raises(ValueError, match="NaN in a heatmap"):
        best_point(maps, cube_of(1))
