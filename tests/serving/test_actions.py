import dataclasses

import numpy as np
import pytest
from serving_fakes import EMBODIMENT, HORIZON

from envs.control.modes import GRIPPER, MODES
from envs.control.servo import ServoConfig
from envs.specs import Dimension
from policies.serving.actions import ActionError, ActionGuard, hold_action

REPLAN_INTERVAL = 3


def guard(mode: str) -> ActionGuard:
    return ActionGuard(EMBODIMENT, HORIZON, REPLAN_INTERVAL, mode)


def good_chunk() -> np.ndarray:
    rng = np.random.default_rng(3)
    return rng.uniform((-0.5, -0.5, 0.0), (0.5, 0.5, 1.0), (HORIZON, 3)).astype(np.float32)


def spoiled(row: int, column: int, value: float) -> np.ndarray:
    chunk = good_chunk()
    chunk[row, column] = value
    return chunk


@pytest.mark.parametrize("mode", ["error", "clamp", "hold"])
def test_actions_within_bounds_pass_unchanged(mode):
    checker = guard(mode)
    np.testing.assert_array_equal(checker.check(good_chunk()), good_chunk())
    np.testing.assert_array_equal(checker.check(good_chunk().astype(np.float64)), good_chunk())
    assert checker.violations == 0


@pytest.mark.parametrize("mode", ["error", "clamp", "hold"])
@pytest.mark.parametrize(
    "chunk", [good_chunk()[:-1], good_chunk()[None], np.zeros((HORIZON, 3), int), np.zeros((HORIZON, 4)), None]
)
def test_a_wrong_shape_or_type_is_always_refused(mode, chunk):
    with pytest.raises(ActionError, match=r"floats of shape \(5, 3\), got"):
        guard(mode).check(chunk)


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 0.7, -0.6])
def test_error_names_the_row_dimension_and_bounds(value):
    checker = guard("error")
    with pytest.raises(ActionError, match=r"action 2, dimension 'dy' must lie in -0.5 … 0.5 m, got"):
        checker.check(spoiled(2, 1, value))
    assert checker.violations == 1


def test_clamp_moves_to_the_bound_and_refuses_what_is_not_finite():
    checker = guard("clamp")
    np.testing.assert_array_equal(checker.check(spoiled(1, 2, 1.7)), spoiled(1, 2, 1.0))
    np.testing.assert_array_equal(checker.check(spoiled(1, 0, -9)), spoiled(1, 0, -0.5))
    assert checker.violations == 2
    for value in (np.nan, np.inf):
        with pytest.raises(ActionError):
            checker.check(spoiled(0, 0, value))


@pytest.mark.parametrize("value", [np.nan, np.inf, 0.7])
def test_hold_stands_still_from_the_first_bad_row(value):
    chunk = guard("hold").check(spoiled(2, 1, value))
    np.testing.assert_array_equal(chunk[:2], good_chunk()[:2])
    np.testing.assert_array_equal(chunk[2:, :2], 0.0)
    np.testing.assert_array_equal(chunk[2:, 2], good_chunk()[1, 2])


def rising_chunk() -> np.ndarray:
    """Actions whose gripper, an absolute dimension, moves along the chunk: 0.1, 0.2 … in its rows."""
    chunk = np.zeros((HORIZON, 3), np.float32)
    chunk[:, 2] = 0.1 * np.arange(1, HORIZON + 1)
    return chunk


def test_hold_repeats_the_last_row_that_was_executed_not_the_end_of_the_chunk():
    checker = guard("hold")
    checker.check(rising_chunk())
    np.testing.assert_array_equal(checker.check(spoiled(0, 0, np.nan))[:, 2], rising_chunk()[REPLAN_INTERVAL - 1, 2])


def test_hold_repeats_what_the_robot_reports_within_the_bounds():
    checker = guard("hold")
    for gripper, held in ((0.45, 0.45), (1.5, 1.0)):
        checker.check(rising_chunk())
        reported = np.array([0.2, 0.2, gripper])
        mended = checker.check(spoiled(0, 0, np.nan), last_action=reported)
        np.testing.assert_array_equal(mended, np.tile(np.float32([0, 0, held]), (HORIZON, 1)))
    first = guard("hold").check(spoiled(0, 0, np.nan), reset=True, last_action=reported)
    np.testing.assert_array_equal(first[:, 2], 1.0)


def test_a_new_episode_knows_nothing_of_the_last_one_and_has_not_begun_while_it_is_refused():
    checker = guard("hold")
    checker.check(rising_chunk())
    with pytest.raises(ActionError):
        checker.check(spoiled(0, 0, np.nan), reset=True)
    np.testing.assert_array_equal(checker.check(spoiled(0, 0, np.nan))[:, 2], rising_chunk()[REPLAN_INTERVAL - 1, 2])


@pytest.mark.parametrize("mode", MODES)
def test_a_held_robot_stays_at_its_last_command_in_every_control_mode(mode):
    joints = tuple(Dimension(name=f"j{i}", unit="rad", low=-2.0, high=2.0) for i in range(6))
    arm = MODES[mode].dimensions(ServoConfig(), joints)
    embodiment = dataclasses.replace(EMBODIMENT, action=(*arm, GRIPPER))
    low, high = np.float32(embodiment.action_low), np.float32(embodiment.action_high)
    chunk = low + (high - low) * np.linspace(0.1, 0.9, HORIZON, dtype=np.float32)[:, None]
    checker = ActionGuard(embodiment, HORIZON, REPLAN_INTERVAL, "hold")
    checker.check(chunk)
    held = checker.check(np.full_like(chunk, np.nan))
    executed = chunk[REPLAN_INTERVAL - 1]
    if mode == "delta_pose":
        executed = np.append(np.zeros(6, np.float32), executed[-1])
    np.testing.assert_array_equal(held, np.tile(executed, (HORIZON, 1)))


def test_standing_still_is_zero_where_actions_are_relative_and_the_last_command_elsewhere():
    last = np.array([0.3, -0.2, 0.8], np.float32)
    np.testing.assert_array_equal(hold_action(EMBODIMENT, last), np.array([0.0, 0.0, 0.8], np.float32))
    assert hold_action(EMBODIMENT, None) is None


def test_an_unknown_mode_is_refused_with_the_known_ones():
    with pytest.raises(ValueError, match=r"'error', 'clamp', 'hold'.*got 'ignore'"):
        guard("ignore")
