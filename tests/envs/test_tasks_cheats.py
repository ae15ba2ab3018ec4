"""Tricks that look like success for an instant must not be it, and the same end brought about in earnest must."""

from dataclasses import replace

import pytest
import torch

from envs.perturbations.spec import Perturbation, Scaled, Size
from envs.props.block import CUBE_HALF_M
from envs.props.mat import MAT_HALF_M
from envs.rotations import quat_multiply
from envs.tasks.chains import CHAINS
from envs.tasks.motion import move_to
from envs.vector import TaskEnv

N = 8
REST = torch.zeros(N, 7)
CLOSED = torch.tensor([0.0] * 6 + [1.0]).expand(N, -1)


def started(task, objects=1.0, receivers=1.0, friction=1.0):
    things = Perturbation(
        object_size=Size(factor=(objects,) * 2),
        receiver_size=Size(factor=(receivers,) * 2),
        friction=Scaled(factor=(friction,) * 2),
    )
    plain = objects == receivers == friction == 1.0
    env = TaskEnv(task, N, render=False, perturbation=None if plain else things)
    env.reset(list(range(N)))
    return env


def where(env, role):
    return env.layout.of(env.sense().position, role)


def put(env, thing, position, quat=None, velocity=(0.0, 0.0, 0.0)):
    """Each world's thing of that role, or name, to ``position``, moving."""
    slots = env.layout.roles.get(thing)
    slots = [env.layout.slot(thing)] * N if slots is None else slots.tolist()
    qpos, qvel = env.world.qpos.clone(), env.world.qvel.clone()
    for world, slot in enumerate(slots):
        name = env.task.props[slot].name
        at, moving = env.world.joint_address(name), env.world.velocity_address(name)
        qpos[world, at : at + 3] = position[world]
        if quat is not None:
            qpos[world, at + 3 : at + 7] = quat[world]
        qvel[world, moving : moving + 6] = 0
        qvel[world, moving : moving + 3] = torch.tensor(velocity)
    env.world.put(torch.arange(N), qpos, env.world.command, qvel)


def succeeded(env, steps=20, action=REST):
    """In which worlds it was done at any of the next steps."""
    for _ in range(steps):
        last = env.step(action)
    env.close()
    return last.success


def drive(env, goal, gripper, steps=40):
    """The tool over ``goal`` and down to it."""
    for step in range(steps):
        at = goal + torch.tensor([0.0, 0.0, 0.12 if step < steps // 2 else 0.0])
        env.step(move_to(env.sense(), at, torch.full((N,), gripper)))


def spread(step_m, axis=0):
    """A different displacement in every world."""
    offset = torch.zeros(N, 3)
    offset[:, axis] = step_m * torch.arange(N)
    return offset


def sweep_over_the_cube():
    env = started("reach")
    start = where(env, "block") + torch.tensor([-0.12, 0.0, 0.012])
    for _ in range(30):
        env.step(move_to(env.sense(), start, torch.zeros(N)))
    forward = torch.tensor([0.04] + [0.0] * 6).expand(N, -1)
    return succeeded(env, 8, forward)


def throw_up():
    env = started("pick")
    put(env, "block", where(env, "block") + torch.tensor([0.0, 0.0, 0.01]), velocity=(0.0, 0.0, 1.8))
    return succeeded(env)


def drop_past():
    env = started("pick")
    put(env, "block", where(env, "block") + torch.tensor([0.0, 0.0, 0.3]))
    return succeeded(env)


def slide_across_the_mat():
    env = started("push", friction=0.1)
    put(env, "block", where(env, "mat") + torch.tensor([-0.1, 0.0, 0.0199]) + spread(0.01), velocity=(1.0, 0.0, 0.0))
    return succeeded(env)


def hold_on_the_mat():
    env = started("push")
    goal = where(env, "mat") + torch.tensor([0.0, 0.0, CUBE_HALF_M])
    drive(env, goal, 0.0)
    put(env, "block", where(env, "mat") + torch.tensor([0.0, 0.0, CUBE_HALF_M]), quat=upright())
    return succeeded(env, action=CLOSED)


def beside_a_small_mat():
    env = started("push", receivers=0.75)
    put(env, "block", where(env, "mat") + torch.tensor([0.0, 0.75 * MAT_HALF_M + 0.006, 0.0199]))
    return succeeded(env)


def beside_a_small_bin():
    env = started("place", objects=0.5, receivers=0.5)
    put(env, "block", where(env, "bin") + torch.tensor([0.05, 0.0, 0.0099]), quat=upright())
    return succeeded(env, 3)


def on_the_rim():
    env = started("place")
    put(env, "block", where(env, "bin") + torch.tensor([0.065, 0.0, 0.0499]), quat=upright())
    return succeeded(env)


def never_let_go(task, role="block"):
    env = started(task)
    for _ in range(90):
        action = env.expert_action()
        held = env.sense().held.any(-1)
        action[:, 6] = torch.maximum(action[:, 6], held.float())
        last = env.step(action)
    env.close()
    return last.success


def fly_over_the_base():
    env = started("stack")
    base = env.layout.of(env.sense().quat, "base")
    start = torch.tensor([-0.075, 0.0, 2 * CUBE_HALF_M + 0.0125]) + spread(0.004)
    put(env, "block", where(env, "base") + start, quat=base, velocity=(1.3, 0.0, 0.0))
    return succeeded(env)


def toss_upright():
    env = started("reorient")
    quarter = torch.tensor([0.5**0.5, 0.0, 0.5**0.5, 0.0]).expand(N, -1)
    standing = where(env, "block") * torch.tensor([1.0, 1.0, 0.0]) + torch.tensor([0.0, 0.0, 0.056])
    put(env, "block", standing, quat=quat_multiply(upright(), quarter), velocity=(1.5, 0.0, 0.25))
    return succeeded(env, 30)


def slide_across_the_mark():
    env = started("pushT", friction=0.1)
    start = where(env, "mark") + torch.tensor([-0.1, 0.0, 0.0199]) + spread(0.008)
    put(env, "tee", start, quat=upright(), velocity=(1.0, 0.0, 0.0))
    return succeeded(env)


def drop_a_cube_on_the_button():
    env = started(CHAINS["press-store"])
    top = where(env, "button") + torch.tensor([0.0, 0.0, 0.07])
    put(env, "block0", top, velocity=(0.0, 0.0, -3.0))
    pressed = torch.zeros(N, dtype=torch.bool)
    for _ in range(10):
        env.step(REST)
        pressed |= env.layout.of(env.sense().opening, "button") > 0.008
    done = env.stages_done[:, 0]
    env.close()
    assert bool(pressed.all())
    return done


def upright():
    return torch.tensor([1.0, 0.0, 0.0, 0.0]).expand(N, -1)


TRICKS = {
    "reach: the tool sweeps past": sweep_over_the_cube,
    "pick: thrown up": throw_up,
    "pick: falls past": drop_past,
    "push: slides across": slide_across_the_mat,
    "push: held on the mat": hold_on_the_mat,
    "push: beside a small mat": beside_a_small_mat,
    "place: beside a small bin": beside_a_small_bin,
    "place: on the rim": on_the_rim,
    "place: never let go": lambda: never_let_go("place"),
    "stow: never let go": lambda: never_let_go("stow"),
    "stack: never let go": lambda: never_let_go("stack"),
    "stack: flies over the base": fly_over_the_base,
    "peg: never let go": lambda: never_let_go("peg"),
    "reorient: never let go": lambda: never_let_go("reorient"),
    "reorient: tossed": toss_upright,
    "pushT: slides across": slide_across_the_mark,
    "button: a cube falls on it": drop_a_cube_on_the_button,
}


@pytest.mark.parametrize("trick", TRICKS.values(), ids=TRICKS)
def test_a_trick_is_no_success(trick):
    assert not bool(trick().any())


@pytest.mark.parametrize(("task", "thing"), [("slide", "knob"), ("drawer", "drawer"), ("door", "door")])
def test_a_part_that_still_moves_has_not_arrived(task, thing):
    env = started(task)
    sensed, layout = env.sense(), env.layout
    draws = layout.draws
    there = 0.1 * draws["side"] if task == "slide" else torch.where(draws["open"], env.task.widest, 0.0)
    slots = layout.roles[thing][:, None]
    arrived = replace(sensed, opening=sensed.opening.scatter(1, slots, there[:, None]))
    moving = replace(arrived, opening_speed=sensed.opening_speed.scatter(1, slots, 0.2))
    assert bool(env.task.success(arrived, layout).all()) and not bool(env.task.success(moving, layout).any())
    env.close()


@pytest.mark.parametrize(
    ("task", "receiver", "scale", "offset_m"),
    [
        ("push", "mat", 1.25, (1.25 * MAT_HALF_M - 0.006, 0.0, CUBE_HALF_M)),
        ("push", "mat", 0.75, (0.0, 0.75 * MAT_HALF_M - 0.006, CUBE_HALF_M)),
        ("place", "bin", 0.75, (0.02, 0.02, 0.03)),
        ("place", "bin", 1.25, (0.055, -0.055, 0.03)),
        ("place", "bin", 1.0, (-0.04, 0.04, 0.03)),
    ],
)
def test_what_lies_there_alone_counts_whatever_the_sizes(task, receiver, scale, offset_m):
    env = started(task, receivers=scale)
    put(env, "block", where(env, receiver) + torch.tensor(offset_m), quat=upright())
    assert bool(succeeded(env, 15).all())


@pytest.mark.parametrize("size", [0.75, 1.25])
@pytest.mark.parametrize(
    "task", ["push", "place", "stack", "stow", pytest.param("sort", marks=pytest.mark.slow), "pick", "reach"]
)
def test_experts_succeed_at_every_size(task, size):
    env = started(task, objects=size, receivers=size)
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= N - 1
    env.close()
