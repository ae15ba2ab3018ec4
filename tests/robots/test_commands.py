"""From a policy's actions to a robot's commands and back."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from envs.specs import STATE_KEY, Dimension, EmbodimentSpec
from policies.robots.commands import ActionTranslation, Commander
from policies.robots.driver import Limits
from policies.robots.steering import steered

STATE = tuple(Dimension(name=name, unit="rad", low=-3.0, high=3.0) for name in ("a", "b", "c"))


def arm(*relative, rate_hz=10.0):
    """An arm of three joints, some of which are told changes."""
    action = tuple(
        Dimension(name=dim.name, unit="rad", low=-0.5 if change else -2.0, high=0.5 if change else 2.0, relative=change)
        for dim, change in zip(STATE, relative, strict=True)
    )
    return EmbodimentSpec(name="arm", control_rate_hz=rate_hz, state=STATE, action=action, cameras=())


numbers = st.lists(st.floats(-2, 2, width=32), min_size=3, max_size=3).map(np.float32)
kinds = st.tuples(st.booleans(), st.booleans(), st.booleans())


@given(kinds, kinds, numbers, numbers)
def test_the_way_back_is_the_inverse(policy, robot, action, base):
    between = ActionTranslation(policy=arm(*policy), robot=arm(*robot))
    there = between.to_robot(action, base)
    np.testing.assert_allclose(between.to_policy(there, base), action, atol=1e-6)
    same = np.array(policy) == np.array(robot)
    np.testing.assert_array_equal(there[same], action[same])


def test_what_the_robots_own_software_passed_on_is_what_counts():
    """A command that went less far than it was told is recorded so, and the next one starts from there."""
    limits = Limits(max_step=(np.inf,) * 3, follows=(0, 1, 2))
    commander = Commander(arm(True, False, True), arm(False, False, False), limits)
    commander.start({STATE_KEY: np.float32([0.0, 0.5, 1.0])})
    sent = commander.command(np.float32([0.4, 0.7, 0.0]))
    np.testing.assert_allclose(sent.action, [0.4, 0.7, 1.0], atol=1e-6)
    assert not commander.carried_out(sent, sent.action).slowed
    done = commander.carried_out(sent, np.float32([0.1, 0.7, 1.0]))
    np.testing.assert_allclose(done.meant, [0.1, 0.7, 0.0], atol=1e-6)
    assert done.slowed and not sent.slowed
    np.testing.assert_allclose(commander.command(np.float32([-0.1, 0.7, 0.0])).action, [0.0, 0.7, 1.0], atol=1e-6)


def test_changes_add_up_to_places_and_are_limited():
    robot = arm(False, False, False)
    limits = Limits(max_step=(0.1, np.inf, np.inf), follows=(0, 1, 2))
    commander = Commander(arm(True, True, True), robot, limits)
    commander.start({STATE_KEY: np.float32([1.0, 0.0, 1.9])})
    first = commander.command(np.float32([0.3, 0.2, 0.2]))
    np.testing.assert_allclose(first.action, [1.1, 0.2, 2.0], atol=1e-6)
    assert (first.bent, first.slowed) == (True, True)
    np.testing.assert_allclose(first.meant, [0.1, 0.2, 0.1], atol=1e-6)  # what was recorded is what was done
    second = commander.command(np.float32([0.05, -0.2, 0.0]))
    np.testing.assert_allclose(second.action, [1.15, 0.0, 2.0], atol=1e-6)
    assert (second.bent, second.slowed) == (False, False)
    still = commander.hold()
    np.testing.assert_allclose(still.action, second.action)
    np.testing.assert_allclose(still.meant, 0.0)


def test_places_become_changes():
    commander = Commander(arm(False, False, False), arm(True, True, True), Limits.none(arm(True, True, True)))
    commander.start({STATE_KEY: np.float32([0.0, 0.5, 0.0])})
    sent = commander.command(np.float32([0.2, 0.2, 1.0]))
    np.testing.assert_allclose(sent.action, [0.2, -0.3, 0.5], atol=1e-6)  # 1 rad away is bent to the bound
    assert sent.bent
    np.testing.assert_allclose(commander.command(np.float32([0.2, 0.2, 1.0])).action, [0.0, 0.0, 0.5], atol=1e-6)


def test_what_is_not_finite_is_no_command():
    commander = Commander(arm(True, True, True), arm(True, True, True), Limits.none(arm(True, True, True)))
    commander.start({STATE_KEY: np.zeros(3, np.float32)})
    with pytest.raises(ValueError, match="finite"):
        commander.command(np.float32([np.nan, 0, 0]))


def test_another_robot_is_refused_with_what_differs():
    with pytest.raises(ValueError, match=r"another robot.*10 Hz +20 Hz +<- differs"):
        try:
            ActionTranslation(policy=arm(True, True, True), robot=arm(True, True, True, rate_hz=20.0))
        except ValueError as error:
            raise ValueError(str(error).replace("\n", " ")) from None


def test_a_limit_needs_to_know_where_the_robot_is():
    robot = dataclasses.replace(arm(False, False, False), state=STATE[1:])
    with pytest.raises(ValueError, match="a has a max_step, but follows no state"):
        Commander(robot, robot, Limits(max_step=(0.1, 1.0, 1.0), follows=(None, 0, 1)))
    with pytest.raises(ValueError, match=r"\['a'\] are relative for one of policy and robot"):
        Commander(dataclasses.replace(arm(True, False, False), state=STATE[1:]), robot, Limits.none(robot))


def test_hands_push_relative_numbers_and_carry_absolute_ones_on():
    robot = arm(True, False, False)
    np.testing.assert_allclose(steered(robot, (-0.5, 0.0, 1.0), np.float32([9, 1.0, 1.9])), [-0.25, 1.0, 2.0])
    np.testing.assert_allclose(steered(robot, (0.0, 1.0, 0.0), np.float32([0, 0.0, 0])), [0, 0.4, 0])


def test_hands_begin_where_the_robot_stands():
    """Also before it was told anything, and in the middle only where nobody knows where it is."""
    robot = arm(True, False, False)
    commander = Commander(robot, robot, Limits.none(robot))
    commander.start({STATE_KEY: np.float32([0.3, -0.4, 1.2])})
    np.testing.assert_allclose(commander.last, [0.0, -0.4, 1.2])
    np.testing.assert_allclose(steered(robot, (0.0, 0.0, 0.0), commander.last), [0.0, -0.4, 1.2])
    np.testing.assert_allclose(steered(robot, (0.0, 0.0, 0.0), np.float32([0, np.nan, 1.2]))[2], 1.2)
