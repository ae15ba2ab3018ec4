"""Depth and calibration that are not perfect: amounts as configured, the same for the same seeds, and nothing else."""

import pytest
import torch
from perturbed_worlds import FRONT, start

from envs.perturbations import Perturbation, axes
from envs.perturbations.spec import CalibrationError, DepthErrors
from envs.rotations import rotation_vector
from envs.specs import STATE_KEY, depth_key, extrinsics_key, image_key, intrinsics_key

DEPTH, POSE = depth_key("front"), extrinsics_key("front")
SEEDS = list(range(6))


def seen_with(perturbation, seeds=SEEDS):
    env, observation = start(perturbation, seeds=seeds, depth=True)
    env.close()
    return observation


@pytest.fixture(scope="module")
def built():
    return seen_with(None)


def depth_with(**fields):
    return Perturbation(depth=DepthErrors(**{name: (value, value) for name, value in fields.items()}))


def test_holes_take_their_share_in_patches_and_leave_the_rest(built):
    seen = seen_with(depth_with(holes=0.3))
    holes = seen[DEPTH] == 0
    torch.testing.assert_close(holes.float().mean((1, 2)), torch.full((6,), 0.3), atol=1e-3, rtol=0)
    assert torch.equal(seen[DEPTH][~holes], built[DEPTH][~holes])
    beside = (holes[:, 1:] == holes[:, :-1]).float().mean()  # of single pixels it would be 0.58
    assert beside > 0.85
    for key in (FRONT, STATE_KEY, POSE):
        assert torch.equal(seen[key], built[key])
    assert not torch.equal(holes[0], holes[1]) and not torch.equal(holes[0], seen[depth_key("wrist")][0] == 0)


def test_noise_grows_with_the_square_of_the_distance(built):
    seen = seen_with(depth_with(noise=0.01))
    true_m = built[DEPTH]
    error = (seen[DEPTH] - true_m) / true_m.square()
    assert error.std() == pytest.approx(0.01, rel=0.03) and error.mean().abs() < 2e-4
    far = true_m > true_m.median()
    assert error[far].std() == pytest.approx(float(error[~far].std()), rel=0.1)


def test_steps_are_those_of_an_inverse_depth(built):
    seen = seen_with(depth_with(step=0.02))
    whole = 1 / (seen[DEPTH] * 0.02)
    assert (whole - whole.round()).abs().max() < 1e-3
    assert ((seen[DEPTH] - built[DEPTH]).abs() <= 0.011 * built[DEPTH].square() * 1.1).all()
    assert len(seen[DEPTH].unique()) < 60 < len(built[DEPTH].unique())


def test_cameras_are_as_far_off_as_was_drawn_and_each_its_own_way(built):
    off = CalibrationError(translation_m=(0.02, 0.02), rotation_rad=(0.05, 0.05))
    seen = seen_with(Perturbation(calibration=off))
    error = torch.linalg.inv(built[POSE]) @ seen[POSE]
    torch.testing.assert_close(error[:, :3, 3].norm(dim=1), torch.full((6,), 0.02), atol=1e-5, rtol=0)
    turned = rotation_vector(error[:, :3, :3])
    torch.testing.assert_close(turned.norm(dim=1), torch.full((6,), 0.05), atol=1e-3, rtol=0)
    assert len((error[:, :3, 3] * 1e4).round().unique(dim=0)) == 6
    wrist = torch.linalg.inv(built[extrinsics_key("wrist")]) @ seen[extrinsics_key("wrist")]
    assert not torch.allclose(wrist[:, :3, 3], error[:, :3, 3], atol=1e-3)
    for key in (FRONT, DEPTH, STATE_KEY, intrinsics_key("front")):
        assert torch.equal(seen[key], built[key])


def test_errors_depend_on_seed_and_step_alone():
    """Holes mostly stay and noise does not; a calibration stays throughout an episode."""
    errors = DepthErrors(holes=(0.2, 0.4), noise=(0.01, 0.02), step=(0.0, 0.01))
    perturbation = Perturbation(depth=errors, calibration=CalibrationError(translation_m=(0.0, 0.03)))
    env, first = start(perturbation, seeds=[3, 7, 11], depth=True, image_size_px=(24, 24))
    stay = torch.zeros(3, 7)
    second = env.step_chunk(stay[:, None].repeat(1, 3, 1)).observation
    alone, _ = start(perturbation, seeds=[7], depth=True, image_size_px=(24, 24))
    for _ in range(3):
        single = alone.step(stay[:1]).observation
    for key in (DEPTH, POSE):
        torch.testing.assert_close(second[key][1:2], single[key], atol=1e-6, rtol=0)
    assert torch.equal(first[POSE], second[POSE])
    before, after = first[DEPTH] == 0, second[DEPTH] == 0
    assert ((before & after).sum() / before.sum()) > 0.6 and not torch.equal(before, after)
    both = ~before & ~after
    assert not torch.equal(first[DEPTH][both], second[DEPTH][both])
    env.close()
    alone.close()


def test_what_has_no_reading_gets_none():
    from envs.perturbations.ranging import Ranger
    from envs.random import EpisodeRandom

    given = depth_with(noise=0.1, step=0.05)
    ranger = Ranger(given.depth, given)
    random = EpisodeRandom(torch.arange(2))
    ranger.begin(random, torch.arange(2), 2)
    depth_m = torch.rand(2, 8, 8) + 0.5
    depth_m[:, :3] = 0.0
    found = ranger.measured(depth_m, image_key("front"), random, torch.zeros(2, dtype=torch.long))
    assert not found[:, :3].any() and (found[:, 3:] > 0).all()


def test_levels_go_from_less_to_more(built):
    levels = axes("rgbd")
    assert list(levels) == [f"{axis}/{level}" for axis in ("calibration", "depth") for level in (1, 2, 3)]
    away = []
    for level in (1, 2, 3):
        seen = seen_with(levels[f"depth/{level}"])
        away.append((seen[DEPTH] - built[DEPTH]).abs().mean().item())
    assert away == sorted(away)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda: DepthErrors(holes=(0.0, 1.5)), "for holes, got"),
        (lambda: DepthErrors(noise=(-0.1, 0.1)), "for noise, got"),
        (lambda: CalibrationError(translation_m=(0.2, 0.1)), "for translation_m, got"),
    ],
)
def test_ranges_that_cannot_be_are_refused(make, message):
    with pytest.raises(ValueError, match=message):
        make()
