import numpy as np
import pytest
from serving_fakes import EMBODIMENT, HORIZON

from policies.serving.actions import ActionError, ActionGuard, hold_action


def good_chunk() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.uniform((-0.5, -0.5, 0.0), (0.5, 0.5, 1.0), (HORIZON, 3)).astype(np.float32)


def spoiled(row: int, column: int, value: float) -> np.ndarray:
    chunk = good_chunk()
    chunk[row, column] = value
    return chunk


@pytest.mark.parametrize("mode", ["error", "clamp", "hold"])
def test_actions_within_bounds_pass_unchanged(mode):
    guard = ActionGuard(EMBODIMENT, HORIZON, mode)
    np.testing.assert_array_equal(guard.check(good_chunk()), good_chunk())
    np.testing.assert_array_equal(guard.check(good_chunk().astype(np.float64)), good_chunk())
    assert guard.violations == 0


@pytest.mark.parametrize("mode", ["error", "clamp", "hold"])
@pytest.mark.parametrize(
    "chunk", [good_chunk()[:-1], good_chunk()[None], np.zeros((HORIZON, 3), int), np.zeros((HORIZON, 4)), None]
)
def test_a_wrong_shape_or_type_is_always_refused(mode, chunk):
    with pytest.raises(ActionError, match=r"floats of shape \(5, 3\), got"):
        ActionGuard(EMBODIMENT, HORIZON, mode).check(chunk)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.7, -0.6])
def test_error_names_the_row_dimension_and_bounds(value):
    guard = ActionGuard(EMBODIMENT, HORIZON, "error")
    with pytest.raises(ActionError, match=r"action 2, dimension 'dy' must lie in -0.5 … 0.5 m, got"):
        guard.check(spoiled(2, 1, value))
    assert guard.violations == 1


def test_clamp_moves_to_the_bound_and_refuses_what_is_not_finite():
    guard = ActionGuard(EMBODIMENT, HORIZON, "clamp")
    np.testing.assert_array_equal(guard.check(spoiled(1, 2, 1.7)), spoiled(1, 2, 1.0))
    np.testing.assert_array_equal(guard.check(spoiled(1, 0, -9)), spoiled(1, 0, -0.5))
    assert guard.violations == 2
    for value in (np.nan, np.inf):
        with pytest.raises(ActionError):
            guard.check(spoiled(0, 0, value))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.7])
def test_hold_stands_still_from_the_first_bad_row(value):
    chunk = ActionGuard(EMBODIMENT, HORIZON, "hold").check(spoiled(2, 1, value))
    np.testing.assert_array_equal(chunk[:2], good_chunk()[:2])
    np.testing.assert_array_equal(chunk[2:, :2], 0.0)
    np.testing.assert_array_equal(chunk[2:, 2], good_chunk()[1, 2])


def test_hold_repeats_the_previous_chunks_gripper_until_reset():
    guard = ActionGuard(EMBODIMENT, HORIZON, "hold")
    with pytest.raises(ActionError):
        guard.check(spoiled(0, 0, np.nan))
    guard.check(good_chunk())
    np.testing.assert_array_equal(guard.check(spoiled(0, 0, np.nan))[:, 2], good_chunk()[-1, 2])
    guard.reset()
    with pytest.raises(ActionError):
        guard.check(spoiled(0, 0, np.nan))


def test_standing_still_is_zero_where_actions_are_relative_and_the_last_command_elsewhere():
    last = np.array([0.3, -0.2, 0.8], np.float32)
    np.testing.assert_array_equal(hold_action(EMBODIMENT, last), np.array([0.0, 0.0, 0.8], np.float32))
    assert hold_action(EMBODIMENT, None) is None


def test_an_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'error', 'clamp', 'hold'.*got 'ignore'"):
        ActionGuard(EMBODIMENT, HORIZON, "ignore")
