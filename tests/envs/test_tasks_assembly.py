"""Tasks that put things on, into or upright: stack, sort, peg and reorient."""

import copy
from dataclasses import replace
from itertools import pairwise

import mujoco
import pytest
import torch

from envs.props.block import CUBE_HALF_M
from envs.props.colours import COLOUR_NAMES
from envs.props.socket import SOCKET_HEIGHT_M
from envs.random import EpisodeRandom
from envs.rotations import quat_from_yaw, quat_multiply
from envs.tasks import make_task
from envs.tasks.peg import DEPTH_M, PEG_HALF_M, Peg
from envs.tasks.reorient import HALF_LENGTH_M
from envs.vector import TaskEnv

NAMES = ("stack", "sort", "peg", "reorient")
SEEDS = list(range(8))
OPEN = torch.zeros(8, 7)


def put(layout, slots, position, quat=None):
    """``layout`` with each world's thing in ``slots`` at ``position``, turned to ``quat`` if given."""
    rows, at, turned = torch.arange(len(slots)), layout.position.clone(), layout.quat.clone()
    at[rows, slots] = position
    if quat is not None:
        turned[rows, slots] = quat
    return replace(layout, position=at, quat=turned)


def drawn(name):
    """The layouts of ``SEEDS``."""
    return make_task(name).sample(EpisodeRandom(torch.tensor(SEEDS)))


def settled(name, layout):
    """Task, state and success after an idle half second that starts in ``layout``."""
    task = make_task(name)
    task.sample = lambda random: layout
    task.success = lambda sensed, layout: torch.zeros(len(layout), dtype=torch.bool)  # else worlds would stand still
    env = TaskEnv(task, len(SEEDS), render=False)
    env.reset(SEEDS)
    for _ in range(10):
        env.step(OPEN)
    sensed = env.sense()
    env.close()
    return make_task(name), sensed, make_task(name).success(sensed, layout)


def touching(sensed):
    """``sensed`` with the robot's hand on everything."""
    return replace(sensed, touched=torch.ones_like(sensed.touched))


def about_y(angle_rad, quat):
    """``quat`` after a turn by ``angle_rad`` about the thing's own y axis."""
    half = torch.tensor(angle_rad / 2)
    return quat_multiply(quat, torch.stack((half.cos(), half * 0, half.sin(), half * 0)).expand_as(quat))


@pytest.mark.parametrize("name", NAMES)
def test_things_start_a_centimetre_apart(name):
    env = TaskEnv(name, 500, render=False)
    env.reset(list(range(500)))
    start = env.sense()
    assert not bool(env.task.success(start, env.layout).any())
    model = copy.deepcopy(env.world.model)
    data = mujoco.MjData(model)
    free = [slot for slot, prop in enumerate(env.task.props) if prop.motion == "free"]
    fixed = [slot for slot, prop in enumerate(env.task.props) if prop.motion == "fixed"]
    own = {model.geom(geom).id for slot in free for geom in env.task.props[slot].painted}
    model.geom_margin[list(own)] = 0.01
    table = model.geom("table_top").id
    for world in range(500):
        data.qpos[:] = env.world.qpos[world].numpy()
        for slot in fixed:
            model.body(env.task.props[slot].name).pos = env.layout.position[world, slot].numpy()
            model.body(env.task.props[slot].name).quat = env.layout.quat[world, slot].numpy()
        mujoco.mj_forward(model, data)
        assert data.ncon >= 4
        assert all(table in pair for pair in data.contact.geom), f"world {world} starts with things nearly touching"
    for a, b in pairwise(fixed):  # two things that stand still never touch for the engine
        assert float((start.position[:, a] - start.position[:, b]).norm(dim=-1).min()) > 0.105
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_things_stay_where_they_are(name):
    env = TaskEnv(name, 100, render=False)
    env.reset(list(range(100)))
    start, present = env.sense(), env.layout.present
    for _ in range(20):
        env.step(torch.zeros(100, 7))
    end = env.sense()
    assert float((end.position - start.position).norm(dim=-1)[present].max()) < 1e-3
    assert float((end.quat - start.quat).abs()[present].max()) < 1e-2
    env.close()


@pytest.mark.parametrize("name", NAMES)
def test_every_phrasing_names_the_things_that_are_meant(name):
    task = make_task(name)
    layout = task.sample(EpisodeRandom(torch.arange(300)))
    assert len(task.phrasings.train) >= 5 and len(task.phrasings.held_out) >= 3
    assert not set(task.phrasings.train) & set(task.phrasings.held_out)
    nouns = {"stack": ("cube", "cube"), "sort": (), "peg": ("peg", "socket"), "reorient": ("block",)}[name]
    assert len(layout.roles) == len(nouns)
    for split in ("train", "held_out"):
        sentences = task.instructions(layout, split)
        assert len(set(sentences)) >= 3
        for world, sentence in enumerate(sentences):
            slots = [int(of[world]) for of in layout.roles.values()]
            assert bool(layout.present[world, slots].all()) and len(set(slots)) == len(slots)
            named = [f"{COLOUR_NAMES[layout.colour[world, s]]} {noun}" for s, noun in zip(slots, nouns, strict=True)]
            places = [sentence.index(each) for each in named]
            assert places == sorted(places)


def test_a_guess_is_right_as_often_as_the_tasks_say():
    random = EpisodeRandom(torch.arange(3000))
    stack, sort = make_task("stack"), make_task("sort")
    count = stack.sample(random).present.sum(1)
    assert float((1 / (count * (count - 1))).mean()) == pytest.approx(stack.chance, abs=0.01)
    cubes = sort.sample(random).present[:, :4].sum(1)
    assert float((0.5**cubes).mean()) == pytest.approx(sort.chance, abs=0.01)
    assert make_task("peg").chance == 0.25


def test_stack_is_done_when_the_cube_rests_on_its_base_and_is_let_go():
    layout = drawn("stack")
    block, base = layout.roles["block"], layout.of(layout.position, "base")
    upright = layout.of(layout.quat, "base")

    def stacked(dx, dz=2 * CUBE_HALF_M):
        return settled("stack", put(layout, block, base + torch.tensor([dx, 0.0, dz]), upright))

    task, sensed, done = stacked(0.012)
    assert bool(done.all())
    assert not bool(task.success(touching(sensed), layout).any())  # still in the hand
    assert not bool(task.success(sensed, layout.with_roles(block=layout.roles["base"], base=block)).any())
    assert not bool(stacked(0.025)[2].any())  # falls off
    assert not bool(stacked(0.045, 0.0)[2].any())  # beside it
    high = put(layout, block, base + torch.tensor([0.0, 0.0, 2 * CUBE_HALF_M + 0.01])).position
    assert not bool(task.success(replace(sensed, position=high), layout).any())


def test_sort_draws_two_colours_of_cubes_and_the_bins_of_the_same():
    layout = make_task("sort").sample(EpisodeRandom(torch.arange(300)))
    for colours, bins, present in zip(layout.colour[:, :4], layout.colour[:, 4:], layout.present[:, :4], strict=True):
        assert len(set(bins.tolist())) == 2
        assert set(colours[present].tolist()) == set(bins.tolist())
    assert set(layout.present[:, :4].sum(1).tolist()) == {2, 3, 4}


def test_sort_is_done_when_every_cube_lies_in_the_bin_of_its_colour():
    layout = drawn("sort")
    own = torch.where(layout.colour[:, :4, None] == layout.colour[:, None, 4:], 1, 0).argmax(-1)

    def binned(choice):
        at = layout.position.clone()
        for cube in range(4):
            corner = torch.tensor([0.03 * (cube % 2 * 2 - 1), 0.03 * (cube // 2 * 2 - 1), 0.0245])
            at[:, cube] = layout.position[torch.arange(8), 4 + choice[:, cube]] + corner
        return replace(layout, position=at)

    task, sensed, done = settled("sort", binned(own))
    assert bool(done.all())
    assert not bool(task.success(touching(sensed), layout).any())
    for cube in (0, 1):  # there in every world
        wrong = own.clone()
        wrong[:, cube] = 1 - wrong[:, cube]
        assert not bool(settled("sort", binned(wrong))[2].any())
        back = sensed.position.clone()
        back[:, cube] = layout.position[:, cube]
        assert not bool(task.success(replace(sensed, position=back), layout).any())


def test_peg_is_done_when_the_peg_is_deep_in_its_hole():
    layout = drawn("peg")
    peg, socket, turn = layout.roles["peg"], layout.of(layout.position, "socket"), layout.of(layout.quat, "socket")

    def inserted(depth_m, slots=peg, at=socket, quat=turn, dx=0.0):
        height = SOCKET_HEIGHT_M + PEG_HALF_M[2] - depth_m
        return put(layout, slots, at + torch.tensor([dx, 0.0, height]), quat)

    task, sensed, done = settled("peg", inserted(0.005))  # falls in from the rim
    assert bool(done.all()) and float(layout.of(sensed.position, "peg")[:, 2].max()) < PEG_HALF_M[2] + 1e-3
    assert not bool(task.success(touching(sensed), layout).any())

    def judged(posed):
        return task.success(replace(sensed, position=posed.position, quat=posed.quat), layout)

    assert bool(judged(inserted(DEPTH_M + 0.002)).all()) and not bool(judged(inserted(DEPTH_M - 0.002)).any())
    assert bool(judged(inserted(DEPTH_M + 0.002, quat=about_y(torch.pi, turn))).all())  # upside down
    assert not bool(judged(inserted(SOCKET_HEIGHT_M, dx=0.06)).any())  # stands beside the socket
    other_socket = layout.position[torch.arange(8), 5 - layout.roles["socket"]]
    assert not bool(judged(inserted(SOCKET_HEIGHT_M, at=other_socket)).any())
    assert not bool(judged(inserted(SOCKET_HEIGHT_M, slots=1 - peg)).any())


def test_a_peg_fits_its_hole_only_when_it_is_turned_like_it_and_over_it():
    layout = drawn("peg")
    peg, socket, turn = layout.roles["peg"], layout.of(layout.position, "socket"), layout.of(layout.quat, "socket")
    above = socket + torch.tensor([0.0, 0.0, SOCKET_HEIGHT_M + PEG_HALF_M[2] + 0.001])
    for offset_m, yaw_rad, fits in ((0.0, 0.0, True), (0.002, 0.0, True), (0.004, 0.0, False), (0.0, 0.6, False)):
        sideways = torch.tensor([offset_m, 0.0, 0.0])
        along = sideways if offset_m == 0 else offset_m * torch.stack(_x_axis(turn), -1)
        yawed = quat_multiply(turn, quat_from_yaw(torch.full((8,), yaw_rad)))
        done = settled("peg", put(layout, peg, above + along, yawed))[2]
        assert bool(done.all()) if fits else not bool(done.any())


def _x_axis(quat):
    w, z = quat[:, 0], quat[:, 3]
    return w * w - z * z, 2 * w * z, torch.zeros_like(w)


def test_reorient_is_done_when_the_block_stands_on_the_table():
    layout = drawn("reorient")
    block, flat = layout.roles["block"], layout.of(layout.quat, "block")
    foot = layout.of(layout.position, "block") * torch.tensor([1.0, 1.0, 0.0])

    def standing(angle_rad, height_m=HALF_LENGTH_M, slots=block):
        return put(layout, slots, foot + torch.tensor([0.0, 0.0, height_m]), about_y(angle_rad, flat))

    for quarter in (torch.pi / 2, -torch.pi / 2):
        task, sensed, done = settled("reorient", standing(quarter))
        assert bool(done.all())
    assert not bool(task.success(touching(sensed), layout).any())
    assert not bool(settled("reorient", layout)[2].any())

    def judged(posed):
        return task.success(replace(sensed, position=posed.position, quat=posed.quat), layout)

    assert bool(judged(standing(torch.pi / 2 + 0.16)).all()) and not bool(judged(standing(torch.pi / 2 + 0.19)).any())
    assert not bool(judged(standing(torch.pi / 2, HALF_LENGTH_M + 0.02)).any())  # in the air
    assert not bool(judged(standing(torch.pi / 2, slots=(block + 1) % 2)).any())


@pytest.mark.parametrize(("name", "noise_m"), [("stack", 0.015), ("sort", 0.01), ("peg", 0.005), ("reorient", 0.015)])
def test_experts_recover_from_being_pushed_off_their_path(name, noise_m):
    """``noise_m``: fingers that jump while they close may flick a thing away for good, slim or many ones sooner."""
    env = TaskEnv(name, 40, render=False)
    env.reset(list(range(40)))
    generator = torch.Generator().manual_seed(0)
    for step in range(env.max_episode_steps):
        action = env.expert_action()
        if step % 8 == 0:
            action[:, :3] += noise_m * torch.randn(40, 3, generator=generator)
        last = env.step(action)
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 36
    env.close()


@pytest.mark.slow
def test_fallen_pegs_are_stood_up_and_inserted_now_and_then():
    class Fallen(Peg):
        def sample(self, random):
            layout = super().sample(random)
            lying = layout.of(layout.position, "peg") - torch.tensor([0.0, 0.0, PEG_HALF_M[2] - PEG_HALF_M[0]])
            return put(layout, layout.roles["peg"], lying, about_y(torch.pi / 2, layout.of(layout.quat, "peg")))

    env = TaskEnv(Fallen(), 80, render=False, max_episode_steps=250)
    env.reset(list(range(80)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 8
    env.close()
