"""Tasks with furniture: drawer, door, button, stow."""

import copy
from dataclasses import replace
from math import cos, radians, sin

import mujoco
import pytest
import torch

from envs.props.bin import BIN_HALF_M
from envs.props.colours import COLOUR_NAMES
from envs.props.door import handle_position
from envs.props.drawer import TRAVEL_M, knob_position, tray_position
from envs.rotations import quat_from_yaw
from envs.specs import TASK_KEY
from envs.tasks import make_task
from envs.tasks.button import PRESSED_M
from envs.tasks.door import Door
from envs.tasks.drawer import Drawer
from envs.vector import TaskEnv

NAMES = ("drawer", "door", "button", "stow")
ROLES = {"drawer": "drawer", "door": "door", "button": "button", "stow": "block"}


def started(task, count=200):
    env = TaskEnv(task, count, render=False)
    observation = env.reset(list(range(count)))
    return env, observation


def touching(env, world):
    """Pairs of geoms of different things that touch at the start of ``world``."""
    model = copy.deepcopy(env.world.model)
    data = mujoco.MjData(model)
    data.qpos[:] = env.world.qpos[world].numpy()
    for slot, prop in enumerate(env.task.props):
        if prop.motion != "free":
            model.body(prop.name).pos = env.layout.position[world, slot].numpy()
            model.body(prop.name).quat = env.layout.quat[world, slot].numpy()
    mujoco.mj_forward(model, data)
    table = model.geom("table_top").id
    return [tuple(pair) for pair in data.contact.geom if table not in pair]


@pytest.mark.parametrize("name", NAMES)
def test_things_start_apart(name):
    env, _ = started(name)
    start = env.sense()
    assert not bool(env.task.success(start, env.layout).any())
    assert not [pair for world in range(200) for pair in touching(env, world)]
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_things_stay_where_they_are(name):
    env, _ = started(name, 60)
    start = env.sense()
    for _ in range(20):
        env.step(torch.zeros(60, 7))
    now = env.sense()
    assert torch.allclose(now.position, start.position, atol=1e-3)
    assert torch.allclose(now.opening, start.opening, atol=1e-3)
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_the_instruction_names_what_is_meant(name):
    env, observation = started(name)
    role, layout = ROLES[name], env.layout
    assert bool(layout.of(layout.present, role).all())
    nouns = {"stow": "cube"}
    colours = layout.of(layout.colour, role)
    for sentence, colour in zip(observation[TASK_KEY], colours, strict=True):
        assert f"{COLOUR_NAMES[colour]} {nouns.get(name, name)}" in sentence
    slots = layout.roles[role]
    assert len(set(slots.tolist())) == sum(prop.noun == nouns.get(name, name) for prop in env.task.props)
    phrasings = env.task.phrasings
    assert not set(phrasings.train) & set(phrasings.held_out)
    assert len(phrasings.train) >= 5 and len(phrasings.held_out) >= 3
    env.close()


def test_the_expert_moves_a_drawer_well_beyond_what_success_asks():
    """Who imitates it and lets go a little sooner has still done it."""
    env, _ = started("drawer", 60)
    running = torch.ones(60, dtype=torch.bool)
    while bool(running.any()):
        running[env.step(env.expert_action()).ended] = False
    opens, opening = env.layout.draws["open"], env.layout.of(env.sense().opening, "drawer")
    assert bool(env.task.success(env.sense(), env.layout).all())
    assert opening[opens].min() > 1.1 * Drawer.open_from and opening[~opens].max() < 0.7 * Drawer.closed_until
    env.close()


@pytest.mark.parametrize("name", ["drawer", "door"])
def test_what_is_to_be_opened_starts_closed_and_the_sentence_says_which(name):
    env, observation = started(name)
    task, to_open = env.task, env.layout.draws["open"]
    assert 60 < int(to_open.sum()) < 140
    opening = env.layout.of(env.sense().opening, name)
    assert bool((opening[to_open] == 0).all()) and bool((opening[~to_open] > task.open_from).all())
    for sentence, opens in zip(observation[TASK_KEY], to_open, strict=True):
        assert ("open" in sentence or "out" in sentence) == bool(opens)
        assert any(word in sentence for word in ("clos", "shut", " in ")) != bool(opens)
    env.close()


@pytest.mark.parametrize(("task", "opened", "closed"), [(Drawer, 0.11, 0.01), (Door, radians(45), radians(3))])
@pytest.mark.parametrize("action", ["open", "close"])
def test_open_and_closed_are_told_apart_by_the_joint(task, opened, closed, action):
    env, _ = started(task(action), 2)
    assert env.task_name == f"{action}-{task.role}"
    rows, slots = torch.arange(2), env.layout.roles[task.role]

    def success(*values):
        opening = torch.zeros_like(env.sense().opening)
        opening[rows, slots] = torch.tensor(values)
        return env.task.success(replace(env.sense(), opening=opening), env.layout).tolist()

    inside, outside = [opened + 1e-3, closed - 1e-3], [opened - 1e-3, closed + 1e-3]
    assert success(*inside) == [action == "open", action == "close"]
    assert success(*outside) == [False, False]
    env.close()


def test_a_button_counts_when_it_is_the_named_one_and_deep_enough():
    env, _ = started("button", 2)
    named = env.layout.roles["button"]
    other = (named + 1) % 2
    for depth, slots, counts in ((0.009, named, True), (0.007, named, False), (0.015, other, False)):
        opening = torch.zeros_like(env.sense().opening)
        opening[torch.arange(2), slots] = depth
        touched = torch.zeros_like(env.sense().touched)
        assert not bool(env.task.success(replace(env.sense(), opening=opening), env.layout).any())
        touched[torch.arange(2), slots, 0] = True
        now = replace(env.sense(), opening=opening, touched=touched)
        assert env.task.success(now, env.layout).tolist() == [counts] * 2
    assert 0.007 < PRESSED_M < 0.009
    env.close()


def test_stowed_is_inside_the_tray_wherever_the_drawer_is():
    env, _ = started("stow", 1)
    layout, sensed = env.layout, env.sense()
    drawer, block = layout.slot("drawer"), int(layout.roles["block"])
    for opening, x_m, touched, stowed in (
        (TRAVEL_M, -TRAVEL_M, False, True),
        (TRAVEL_M, -TRAVEL_M, True, False),
        (TRAVEL_M, -TRAVEL_M - BIN_HALF_M + 0.015, False, False),
        (0.0, -TRAVEL_M, False, False),
        (0.0, 0.0, False, True),
    ):
        position, opened = sensed.position.clone(), sensed.opening.clone()
        position[0, block] = position[0, drawer] + torch.tensor([x_m, 0.0, 0.03])
        opened[0, drawer] = opening
        touches = torch.full_like(sensed.touched, touched)
        now = replace(sensed, position=position, opening=opened, touched=touches)
        assert bool(env.task.success(now, layout)) == stowed
    env.close()


@pytest.mark.parametrize(
    ("task", "part", "where"), [("drawer", "knob", knob_position), ("door", "handle", handle_position)]
)
def test_handles_are_where_the_simulator_has_them(task, part, where):
    """The formula for the handle against MuJoCo's kinematics, at a turned base and a drawn opening."""
    env, _ = started(task, 1)
    prop = env.task.props[0]
    model, data = env.world.model, mujoco.MjData(env.world.model)
    base, yaw, opening = torch.tensor([[0.6, 0.1, 0.0]]), torch.tensor([0.4]), torch.tensor([0.09])
    model.body(prop.name).pos, model.body(prop.name).quat = base[0].numpy(), quat_from_yaw(yaw)[0].numpy()
    data.joint(prop.name).qpos[0] = float(opening)
    mujoco.mj_kinematics(model, data)
    expected = torch.tensor(data.geom(f"{prop.name}/{part}").xpos)
    assert torch.allclose(where(base, quat_from_yaw(yaw), opening)[0, :2], expected[:2].float(), atol=1e-5)
    if task == "drawer":
        tray = torch.tensor(data.body(f"{prop.name}/tray").xpos).float()
        assert torch.allclose(tray_position(base, quat_from_yaw(yaw), opening)[0], tray, atol=1e-5)
        assert torch.allclose(tray[:2], base[0, :2] - 0.09 * torch.tensor([cos(0.4), sin(0.4)]), atol=1e-5)
    env.close()


@pytest.mark.parametrize(("noise_m", "least"), [pytest.param(0.0, 78, marks=pytest.mark.slow), (0.015, 74)])
@pytest.mark.parametrize("name", NAMES)
def test_experts_succeed_and_recover_from_being_pushed_off_their_path(name, noise_m, least):
    env, _ = started(name, 80)
    generator = torch.Generator().manual_seed(0)
    for step in range(env.max_episode_steps):
        action = env.expert_action()
        if step % 8 == 0:
            action[:, :3] += noise_m * torch.randn(80, 3, generator=generator)
        last = env.step(action)
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= least
    env.close()


def test_a_third_drawer_is_refused():
    with pytest.raises(ValueError, match="room for 1 or 2 drawers, got 3"):
        Drawer(units=3)
    assert make_task("drawer").chance == 0.5 and Drawer("open", units=1).chance is None
