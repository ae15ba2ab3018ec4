"""Processors: each transform's inverse undoes it, and the modes map the data where they promise to."""

import json

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from envs.specs import Dimension, EmbodimentSpec
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.processors import STATE_BOUND, Normalization, NormalizationMode, Normalizer, scale_floor

torch.set_num_threads(1)
MODES = list(NormalizationMode)


def data_sets(dim=3):
    """Vectors of wide and narrow range; some dimensions constant."""
    rows = st.integers(1, 20)
    values = rows.flatmap(
        lambda t: hnp.arrays(np.float32, (t, dim), elements=st.floats(-100, 100, width=32, allow_subnormal=False))
    )
    constant = hnp.arrays(np.bool_, dim)
    return st.builds(lambda v, c: np.where(c, v[:1], v).astype(np.float32), values, constant)


def normalizer_of(data, mode, floor=0.0, bound=None):
    stats = FieldStatistics.of(np.asarray(data, dtype=np.float32))
    return Normalizer(mode=mode, stats=stats, floor=(floor,) * stats.dim, bound=bound)


def dimension(name, unit="rad", low=-0.2, high=0.2):
    return Dimension(name=name, unit=unit, low=low, high=high)


@settings(max_examples=60, deadline=None)
@given(data=data_sets(), other=data_sets(), mode=st.sampled_from(MODES), floor=st.sampled_from((0.0, 0.02, 5.0)))
def test_unnormalize_inverts_normalize(data, other, mode, floor):
    normalizer = normalizer_of(data, mode, floor)
    moves = torch.from_numpy(np.ptp(data.astype(np.float64), axis=0)) > floor / 1000
    values = torch.from_numpy(other).double()
    normalized = normalizer.normalize(values)
    assert normalized.isfinite().all()
    again = normalizer.unnormalize(normalized)
    torch.testing.assert_close(again[:, moves], values[:, moves], rtol=1e-9, atol=1e-9)
    there = normalizer.normalize(normalizer.unnormalize(values))
    torch.testing.assert_close(there[:, moves], values[:, moves], rtol=1e-6, atol=1e-6)


@settings(max_examples=30, deadline=None)
@given(data=data_sets(), mode=st.sampled_from(MODES))
def test_float32_inverse_is_exact_to_rounding(data, mode):
    normalizer = normalizer_of(data, mode)
    values = torch.from_numpy(data)
    again = normalizer.unnormalize(normalizer.normalize(values))
    assert again.dtype == torch.float32
    torch.testing.assert_close(again, values, rtol=1e-5, atol=5e-5)  # 4 roundings of numbers up to 100


@settings(max_examples=60, deadline=None)
@given(data=data_sets(), other=data_sets(), mode=st.sampled_from(MODES[1:]))
def test_a_bound_clamps_and_never_touches_the_data(data, other, mode):
    free, bounded = (normalizer_of(data, mode, 0.01, bound) for bound in (None, STATE_BOUND))
    values = torch.from_numpy(data).double()
    assert free.normalize(values).abs().max() <= STATE_BOUND * (1 + 1e-9)
    torch.testing.assert_close(bounded.normalize(values), free.normalize(values), rtol=1e-9, atol=1e-9)
    far = torch.from_numpy(other).double() * 1e3
    torch.testing.assert_close(bounded.normalize(far), free.normalize(far).clamp(-STATE_BOUND, STATE_BOUND))


def test_modes_map_the_data_as_promised():
    data = np.random.default_rng(0).normal(3.0, 5.0, (4000, 2)).astype(np.float32)
    values = torch.from_numpy(data).double()
    by_mode = {mode: normalizer_of(data, mode, 0.3).normalize(values).numpy() for mode in MODES}
    np.testing.assert_array_equal(by_mode[NormalizationMode.IDENTITY], data)
    np.testing.assert_allclose(by_mode[NormalizationMode.MEAN_STD].mean(0), 0, atol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MEAN_STD].std(0), 1, rtol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MIN_MAX].min(0), -1, rtol=1e-9)
    np.testing.assert_allclose(by_mode[NormalizationMode.MIN_MAX].max(0), 1, rtol=1e-9)
    quantiles = by_mode[NormalizationMode.QUANTILES]
    np.testing.assert_allclose(np.quantile(quantiles, (0.01, 0.99), axis=0), [[-1, -1], [1, 1]], rtol=1e-9)
    assert quantiles.max() > 1  # outliers are kept, not clipped


@pytest.mark.parametrize("mode", MODES[1:])
def test_constant_dimensions_without_a_floor_are_only_shifted(mode):
    data = np.tile(np.float32([7.0, -1e-3]), (10, 1))
    normalizer = normalizer_of(data, mode)
    torch.testing.assert_close(normalizer.normalize(torch.from_numpy(data)), torch.zeros(10, 2))
    torch.testing.assert_close(normalizer.normalize(torch.tensor([[7.5, 0.0]])), torch.tensor([[0.5, 1e-3]]))


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("floor", [0.0, 0.004])
@pytest.mark.parametrize("value", [0.0, 0.1, -7.3])
def test_a_constant_comes_back_exactly_whatever_the_network_says(mode, floor, value):
    data = np.full((7, 1), value, np.float32)
    said = torch.tensor([[0.3], [-1e4], [0.0]])
    assert normalizer_of(data, mode, floor).unnormalize(said).tolist() == [[float(np.float32(value))]] * 3


def test_jitter_of_a_constant_is_constant_and_what_moves_a_little_is_not():
    jitter, little = np.float32([[1e-7], [-1e-7]]), np.float32([[1e-4], [-1e-4]])
    assert normalizer_of(jitter, NormalizationMode.MIN_MAX, 0.004).unnormalize(torch.ones(1)).tolist() == [0.0]
    assert normalizer_of(little, NormalizationMode.MIN_MAX, 0.004).unnormalize(torch.ones(1)).item() > 0


STATE = (
    dimension("joint", low=-3.1, high=3.1),
    dimension("gripper_gap", "m", 0.0, 0.08),
    dimension("free", "m", -np.inf, np.inf),
)
ACTION = (dimension("dx", "m", -0.04, 0.04), dimension("rx"))
ROBOT = EmbodimentSpec(name="arm", control_rate_hz=20.0, state=STATE, action=ACTION, cameras=())


def arm_at_home(mode=NormalizationMode.MEAN_STD):
    """What recordings of an arm that starts at home and never grips look like: it moves 36 % of ``dx``'s range."""
    rng = np.random.default_rng(0)
    action = np.stack([rng.uniform(-0.0288, 0.0288, 400), np.zeros(400)], 1)
    statistics = DatasetStatistics(
        episodes=1,
        frames=400,
        state=FieldStatistics.of(rng.normal([0.8, 0.08, 0.2], [2.5e-4, 1.4e-5, 1e-5], (400, 3))),
        action=FieldStatistics.of(action),
    )
    return Normalization.from_statistics(statistics, ROBOT, state=mode, action=NormalizationMode.MIN_MAX)


@pytest.mark.parametrize("mode", MODES[1:])
def test_an_arm_a_little_off_is_no_explosion(mode):
    seen = arm_at_home(mode).state.normalize(torch.tensor([[0.9, 0.079, 0.21]]))
    assert seen.abs().max() < 2 and seen.abs().min() > 0.1
    assert arm_at_home(mode).state.normalize(torch.tensor([[3.0, 0.0, 9.0]])).abs().max() == STATE_BOUND


def test_a_floor_leaves_actions_that_move_as_they_are():
    action = arm_at_home().action
    widest = action.unnormalize(torch.tensor([[1.0, 0.5]]))
    assert widest[0, 0].item() == pytest.approx(0.0288, rel=0.02) and widest[0, 1].item() == 0.0
    assert (action.floor, action.bound) == (pytest.approx((0.0008, 0.004)), None)


def test_floors_come_from_the_range_or_else_the_unit():
    assert scale_floor(dimension("q", low=-2.0, high=3.0)) == pytest.approx(0.05)
    assert scale_floor(dimension("x", "m", -np.inf, np.inf)) == 0.03
    assert scale_floor(dimension("x", "m", 0.0, np.inf)) == scale_floor(dimension("x", "m", 0.0, 0.0)) == 0.03
    assert scale_floor(dimension("x", "lux", 0.0, np.inf)) == 0.0


def test_what_hardly_moves_is_named():
    named = arm_at_home().nearly_constant(ROBOT)
    assert [name.partition(" (")[0] for name in named] == [
        "state joint",
        "state gripper_gap",
        "state free",
        "action rx",
    ]
    assert named[-1] == "action rx (0 of 0.4)"
    assert len(arm_at_home(NormalizationMode.IDENTITY).nearly_constant(ROBOT)) == 1


@pytest.mark.parametrize("wrong", [{"floor": (0.1,)}, {"floor": (0.1, -1.0)}, {"floor": (0.1, 0.1), "bound": 0.0}])
def test_floors_and_bounds_that_mean_nothing_are_refused(wrong):
    with pytest.raises(ValueError, match="expected a"):
        Normalizer(mode=NormalizationMode.MEAN_STD, stats=FieldStatistics.of(np.eye(2, dtype=np.float32)), **wrong)


def test_wrong_width_is_refused():
    normalizer = normalizer_of(np.eye(3), NormalizationMode.MEAN_STD)
    with pytest.raises(ValueError, match=r"expected 3 dimensions .* got shape \(2, 4\)"):
        normalizer.normalize(torch.zeros(2, 4))


def test_normalization_survives_json():
    normalization = arm_at_home()
    again = Normalization.from_dict(json.loads(json.dumps(normalization.to_dict())))
    assert again == normalization
    assert (again.state.mode, again.state.bound, again.action.bound) == ("MEAN_STD", STATE_BOUND, None)
    assert again.state.floor == normalization.state.floor
