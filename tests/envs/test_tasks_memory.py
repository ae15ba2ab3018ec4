"""Tasks that cannot be solved from what is seen now: recall and press-times."""

from dataclasses import replace

import pytest
import torch

from envs.props.cover import COVER_HEIGHT_M
from envs.specs import ENVIRONMENT_STATE_KEY, TASK_KEY, image_key
from envs.suites import SUITES
from envs.tasks import TASKS, make_task
from envs.tasks.chains import CHAINS
from envs.tasks.motion import hop, move_to
from envs.tasks.press_times import TIMES, PressTimes
from envs.tasks.pressing import press, rise
from envs.tasks.recall import COUNT, Recall
from envs.vector import TaskEnv

N = 12


def started(task, count=N, **settings):
    env = TaskEnv(task, count, render=False, **settings)
    return env, env.reset(list(range(count)))


def until_hidden(env):
    for _ in range(60):
        if bool(env.stages_done[:, 0].all()):
            return
        action = env.expert_action()
        action[env.stages_done[:, 0]] = 0
        env.step(action)
    raise AssertionError("nobody pressed the button")


def touch(env, slots, steps=50):
    """The tool onto the boxes over the cubes in ``slots``."""
    for _ in range(steps):
        cube = env.sense().position[torch.arange(N), slots]
        top = torch.cat((cube[:, :2], torch.full((N, 1), COVER_HEIGHT_M)), -1)
        last = env.step(move_to(env.sense(), hop(top, env.sense()), torch.ones(N)))
    return last


def test_boxes_come_down_over_the_cubes_when_the_button_is_pressed_and_nothing_stirs():
    env, _ = started("recall")
    boxes, before = slice(COUNT, 2 * COUNT), env.sense().position[:, :COUNT]
    assert bool((env.layout.position[:, boxes, 0] < -10).all())
    until_hidden(env)
    assert torch.equal(env.layout.position[:, boxes, :2], env.sense().position[:, :COUNT, :2])
    for _ in range(10):
        env.step(torch.zeros(N, 7))
    assert torch.allclose(env.sense().position[:, :COUNT], before, atol=1e-3)
    assert not bool(env.sense().touched[:, boxes].any())
    env.close()


def test_once_they_are_hidden_the_pictures_do_not_tell_the_cubes_apart():
    """Pictures before and after, of tables that differ in the colours of the cubes alone."""

    class Swapped(Recall):
        def sample(self, random):
            layout = super().sample(random)
            colours = layout.colour.clone()
            colours[:, :COUNT] = layout.colour[:, :COUNT].roll(1, 1)
            return replace(layout, colour=colours)

    seen = []
    for task in (Recall(), Swapped()):
        env = TaskEnv(task, 2, image_size_px=(64, 64))
        shown = env.reset([0, 1])
        for _ in range(60):
            if bool(env.stages_done[:, 0].all()):
                break
            action = env.expert_action()
            action[env.stages_done[:, 0]] = 0
            last = env.step(action)
        seen.append([torch.cat([each[image_key(c)] for c in ("front", "wrist")]) for each in (shown, last.observation)])
        env.close()
    (first_shown, first_hidden), (second_shown, second_hidden) = seen
    assert not torch.equal(first_shown, second_shown) and torch.equal(first_hidden, second_hidden)


def test_only_the_right_box_counts_and_a_wrong_one_ends_the_chance():
    env, _ = started("recall", max_episode_steps=300)
    until_hidden(env)
    right = env.layout.roles["block"]
    assert not bool(touch(env, (right + 1) % COUNT).success.any())
    assert bool(env.layout.memory["wrong"].all())
    assert not bool(touch(env, right).success.any())
    env.close()
    env, _ = started("recall", max_episode_steps=300)
    until_hidden(env)
    assert bool(touch(env, env.layout.roles["block"]).success.all())
    env.close()


def test_the_place_of_a_cube_that_is_not_hidden_is_no_answer():
    env, _ = started("recall", max_episode_steps=300)
    assert not bool(touch(env, env.layout.roles["block"]).success.any())
    env.close()


def presses(env, count, button=None):
    """Press the button in ``button``, the named one when None, ``count`` times, and wait for more than the dwell."""
    for _ in range(count):
        view = env.layout if button is None else env.layout.with_roles(button=button)
        for step in range(30):
            last = env.step(press(env.sense(), view) if step < 22 else rise(env.sense()))
    for _ in range(15):
        last = env.step(rise(env.sense()) * (env.sense().tool_position[:, 2:] < 0.25))
    return last.success


def test_pressed_as_often_as_told():
    env, _ = started("press-times", 24, max_episode_steps=300)
    told = env.layout.draws["count"]
    assert torch.equal(presses(env, 1), told == 1)
    env.close()


def test_another_button_spoils_it():
    env, _ = started("press-times", max_episode_steps=300)
    named = env.layout.roles["button"]
    other = torch.where(named == 0, 1, 0)
    presses(env, 1, other)
    assert bool(env.layout.memory["spoilt"].all()) and not bool(env.layout.memory["presses"].any())
    for _ in range(120):
        last = env.step(env.expert_action())
    assert not bool(last.success.any())
    env.close()


def test_one_press_too_many_cannot_be_made_good():
    class Eager(PressTimes):
        """Its expert presses once more than told."""

        def expert(self, sensed, layout):
            return super().expert(sensed, layout.with_draws(count=layout.draws["count"] + 1))

    env, _ = started(Eager(), 24, max_episode_steps=250)
    for _ in range(250):
        last = env.step(env.expert_action())
    assert torch.equal(env.layout.memory["presses"], env.layout.draws["count"] + 1)
    assert not bool(last.success.any())
    env.close()


def test_the_sentence_tells_how_often():
    env, observation = started("press-times", 100)
    counts = env.layout.draws["count"].tolist()
    assert set(counts) == {1, 2, 3, 4}
    for sentence, count in zip(observation[TASK_KEY], counts, strict=True):
        assert TIMES[count - 1] in sentence
    env.close()


@pytest.mark.parametrize("name", ["recall", "press-times"])
def test_on_the_experts_way_the_potential_never_falls_far(name):
    env, _ = started(name)
    before, stage = env.task.potential(env.sense(), env.layout), env.layout.memory["stage"]
    for _ in range(env.max_episode_steps):
        running = ~env.stages_done.all(1)
        last = env.step(env.expert_action())
        now = env.task.potential(env.sense(), env.layout)
        assert bool(((now >= 0) & (now <= 1)).all())
        same = (env.layout.memory["stage"] == stage) & running
        assert float(((before - now) * same).max()) < 0.1
        before, stage = now, env.layout.memory["stage"]
        if bool((last.terminated | last.truncated).all()):
            break
    assert bool(last.success.all())
    env.close()


ALL = [*TASKS, *CHAINS, *(task for suite in SUITES.values() for task in suite.task_names)]


@pytest.mark.parametrize("name", ALL)
def test_every_task_makes_a_privileged_state_of_the_promised_width(name):
    env = TaskEnv(CHAINS.get(name, name), 2, render=False, privileged=True)
    key = ENVIRONMENT_STATE_KEY
    first, later = env.reset([0, 1])[key], env.step(torch.zeros(2, 7)).observation[key]
    assert first.shape == later.shape == (2, env.privileged_dim) and bool(later.isfinite().all())
    env.close()


def test_memory_tasks_are_guessed_right_as_often_as_they_say():
    assert make_task("recall").chance == pytest.approx(1 / 3)
    assert make_task("press-times").chance == pytest.approx((1 / 2 + 1 / 3) / 2 / 4)
