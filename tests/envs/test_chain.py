"""Chains: several tasks in one scene, one after the other."""

import copy
from dataclasses import replace

import mujoco
import pytest
import torch

from envs.observations import privileged_state
from envs.props.colours import COLOUR_NAMES
from envs.props.drawer import TRAVEL_M
from envs.spaces import MAX_INSTRUCTION_CHARACTERS
from envs.specs import TASK_KEY
from envs.tasks.button import Button
from envs.tasks.chain import Chain, Stage
from envs.tasks.chains import CHAINS, KITCHEN, chains
from envs.tasks.reach import Reach
from envs.vector import TaskEnv

SEEDS = list(range(200))
PLAYED = ("store", "open-press", "two-bins", "tower", "push-press")
"""Every task of a stage in one of them; the others are slow tests."""
TABLES = list({(chain.props, tuple(chain._opening.items())): name for name, chain in CHAINS.items()}.values())
"""A chain for each table and each state of what can be opened: from equal seeds, the others start as these do."""


def started(name, count=200, **settings):
    env = TaskEnv(CHAINS[name], count, render=False, **settings)
    return env, env.reset(list(range(count)))


def play(env, steps, stop=lambda env: False):
    """Let the expert act until ``stop``; the stages done after each step."""
    done = [env.stages_done]
    for _ in range(steps):
        env.step(env.expert_action())
        done.append(env.stages_done)
        if stop(env):
            break
    return torch.stack(done)


def with_opening(env, **opening):
    values = env.sense().opening.clone()
    for name, value in opening.items():
        values[:, env.layout.slot(name)] = value
    return replace(env.sense(), opening=values)


def test_there_are_chains_of_two_to_five_stages():
    assert len(CHAINS) >= 10
    assert {chain.stages for chain in CHAINS.values()} == {2, 3, 4, 5}
    assert [chain.name for chain in chains("long/")] == [f"long/{name}" for name in CHAINS]


@pytest.mark.parametrize("name", TABLES)
def test_things_start_apart(name):
    env, _ = started(name)
    model = copy.deepcopy(env.world.model)
    data, table = mujoco.MjData(model), model.geom("table_top").id
    for world in SEEDS:
        data.qpos[:] = env.world.qpos[world].numpy()
        for slot, prop in enumerate(env.task.props):
            if prop.motion != "free":
                model.body(prop.name).pos = env.layout.position[world, slot].numpy()
                model.body(prop.name).quat = env.layout.quat[world, slot].numpy()
        mujoco.mj_forward(model, data)
        assert all(table in pair for pair in data.contact.geom), f"world {world} starts with things in contact"
    env.close()


@pytest.mark.parametrize("name", TABLES)
def test_things_stay_where_they_are(name):
    env, _ = started(name, 60)
    start = env.sense()
    for _ in range(20):
        env.step(torch.zeros(60, 7))
    assert torch.allclose(env.sense().position, start.position, atol=1e-3)
    assert torch.allclose(env.sense().opening, start.opening, atol=1e-3)
    assert not bool(env.stages_done.any())
    env.close()


@pytest.mark.parametrize(
    "name", [name if name in PLAYED else pytest.param(name, marks=pytest.mark.slow) for name in sorted(CHAINS)]
)
def test_experts_do_the_stages_in_order_and_the_potential_never_forgets_one(name):
    env, _ = started(name, 40)
    done, stages = [], env.task.stages
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        done.append(env.stages_done)
        behind, potential = done[-1].sum(1), env.task.potential(env.sense(), env.layout)
        assert bool((potential >= behind / stages - 1e-6).all())
        assert bool((potential <= (behind + 1).clamp(max=stages) / stages + 1e-6).all())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 39
    history = torch.stack(done)
    assert bool((history[1:] >= history[:-1]).all())
    assert bool((history[..., :-1] >= history[..., 1:]).all())
    assert torch.equal(last.success, history[-1].all(-1)) and torch.equal(last.success, last.terminated)
    env.close()


def test_only_the_present_stage_counts():
    """Store: a cube in the open drawer is no success before the drawer has been opened as a stage of its own."""
    env, _ = started("store", 2)
    task, layout = env.task, env.layout
    shut, out = with_opening(env, drawer=0.0), with_opening(env, drawer=TRAVEL_M)
    assert task.success(shut, layout).tolist() == [False, False]
    assert task.success(out, layout).tolist() == [True, True]
    second, third = (layout.remembering(stage=torch.full((2,), stage)) for stage in (1, 2))
    assert task.success(out, second).tolist() == [False, False]
    block, drawer = layout.slot("block0"), layout.slot("drawer")
    position = out.position.clone()
    position[:, block] = position[:, drawer] + torch.tensor([-TRAVEL_M, 0.0, 0.03])
    stored = replace(out, position=position)
    assert task.success(stored, second).tolist() == [True, True]
    assert task.success(stored, third).tolist() == [False, False]
    assert task.success(shut, third).tolist() == [True, True]
    env.close()


def test_instructions_name_the_things_of_each_stage_in_order():
    env, observation = started("tidy")
    held_out = TaskEnv(CHAINS["tidy"], 200, render=False, split="held_out")
    never = held_out.reset(SEEDS)[TASK_KEY]
    for sentences in (observation[TASK_KEY], never):
        for world, sentence in enumerate(sentences):
            assert len(sentence) <= MAX_INSTRUCTION_CHARACTERS
            names = ["block0", "button", "block1", "bin"]
            colours = [COLOUR_NAMES[env.layout.colour[world, env.layout.slot(name)]] for name in names]
            things = ["drawer", f"{colours[0]} cube", "drawer", "drawer", f"{colours[1]} button", f"{colours[2]} cube"]
            at = 0
            for thing in (*things, "bin"):
                at = sentence.index(thing, at) + 1
            assert "{" not in sentence
    assert len(set(observation[TASK_KEY])) > 190
    assert not set(observation[TASK_KEY]) & set(never)
    env.close()
    held_out.close()


def test_a_chunk_across_the_end_of_a_stage_equals_single_steps():
    single, _ = started("open-press", 3)
    actions = []
    while not bool(single.stages_done[:, 0].all()):
        actions.append(single.expert_action())
        single.step(actions[-1])
    actions += [torch.zeros(3, 7)] * 4
    for action in actions[-4:]:
        last = single.step(action)
    chunked, _ = started("open-press", 3)
    transition = chunked.step_chunk(torch.stack(actions, 1))
    assert torch.equal(single.world.qpos, chunked.world.qpos)
    assert torch.equal(single.stages_done, chunked.stages_done) and bool(chunked.stages_done[:, 0].all())
    assert torch.equal(last.success, transition.success) and transition.steps.tolist() == [len(actions)] * 3
    single.close()
    chunked.close()


def test_dense_reward_sums_to_the_gain_in_potential_across_stages():
    env, _ = started("press-three", 3, reward="dense", discount=1.0)
    start = env.task.potential(env.sense(), env.layout)
    total = torch.zeros(3)
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        total += last.reward
    assert bool(last.success.all())
    assert torch.allclose(env.task.potential(env.sense(), env.layout), torch.ones(3))
    assert torch.allclose(total, 1 - start, atol=1e-5)  # a solved task has no potential left
    env.close()


def test_resetting_a_world_resets_its_stage_alone():
    env, _ = started("press-three", 3)
    play(env, 100, lambda env: bool(env.stages_done[:, 0].all()))
    before = env.stages_done
    env.reset([7, 8, 9], torch.tensor([False, True, False]))
    assert not bool(env.stages_done[1].any())
    assert torch.equal(env.stages_done[[0, 2]], before[[0, 2]])
    env.close()


def test_what_learners_are_told_includes_the_stage():
    env, _ = started("press-three", 2, privileged=True)
    told = privileged_state(env.sense(), env.layout)
    assert told.shape == (2, env.privileged_dim)
    ahead = privileged_state(env.sense(), env.layout.remembering(stage=torch.tensor([1, 2])))
    assert (ahead - told).abs().sum(-1).tolist() == [1.0, 2.0]
    env.close()


def test_tasks_of_one_stage_report_success_as_it():
    env = TaskEnv("button", 4, render=False)
    env.reset([0, 1, 2, 3])
    done = play(env, 40)
    assert done.shape[1:] == (4, 1) and not bool(done[0].any()) and bool(done[-1].all())
    env.close()


def test_a_chain_of_things_that_are_not_there_is_refused():
    stage = Stage(task=Reach(), roles={"block": "block7"})
    with pytest.raises(ValueError, match=r"chain 'x' speaks of \['block7'\], but there are only \['block0'"):
        Chain("x", [stage, Stage(task=Button(), roles={"button": "button"})], KITCHEN)
