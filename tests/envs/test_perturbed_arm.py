"""What goes wrong while the arm is at work: soft servos, late and noisy commands, pushed things."""

from dataclasses import replace

import pytest
import torch
from perturbed_worlds import field_of, start

from envs.perturbations import Perturbation, axes
from envs.perturbations.perturber import Perturber
from envs.perturbations.spec import ActionNoise, Gains, Latency, Pushes
from envs.random import EpisodeRandom
from envs.tasks import make_task
from envs.vector import TaskEnv

MANY = list(range(64))


@pytest.fixture(params=["cpu", "warp"])
def engine(request):
    if request.param == "warp":
        pytest.importorskip("mujoco_warp")
        return {"engine": "warp", "device": "cpu", "render": False}
    return {"engine": "cpu", "render": False}


def forward(env, dx=0.04):
    """A step ahead with the gripper closing."""
    action = torch.zeros(env.num_envs, 7)
    action[:, 0], action[:, 6] = dx, 1.0
    return action


def test_gains_scale_the_arm_s_servos_and_leave_the_gripper_alone(engine):
    env, _ = start(Perturbation(gains=Gains(stiffness=(0.5, 0.9), damping=(1.1, 1.5))), **engine)
    model = env.world.model
    gain, bias = (field_of(env, f"actuator_{name}prm").reshape(3, model.nu, -1) for name in ("gain", "bias"))
    built_gain, built_bias = (
        torch.tensor(field, dtype=torch.float32) for field in (model.actuator_gainprm, model.actuator_biasprm)
    )
    stiffness = gain[:, :7, 0] / built_gain[:7, 0]
    assert stiffness.min() >= 0.5 and stiffness.max() <= 0.9 and stiffness.std(1).max() < 1e-6 < stiffness.std(0).min()
    assert torch.allclose(bias[:, :7, 1], -gain[:, :7, 0])
    damping = bias[:, :7, 2] / built_bias[:7, 2]
    assert damping.min() >= 1.1 and damping.max() <= 1.5
    assert torch.equal(gain[:, 7], built_gain[7].expand(3, -1)) and torch.equal(bias[:, 7], built_bias[7].expand(3, -1))
    env.close()


def test_soft_servos_lag(engine):
    moved = []
    for stiffness in (0.3, 1.0):
        gains = Gains(stiffness=(stiffness, stiffness), damping=(1.0, 1.0))
        env, _ = start(Perturbation(gains=gains), **engine)
        before = env.sense().tool_position
        env.step_chunk(forward(env)[:, None].repeat(1, 3, 1))
        moved.append((env.sense().tool_position - before)[:, 0].mean())
        env.close()
    assert moved[0] < 0.8 * moved[1]


@pytest.mark.parametrize("late", [0, 1, 3])
def test_late_commands_are_the_same_commands_later(engine, late):
    """An arm told to wait first moves exactly as one that is told at once, but ``late`` steps behind."""
    env, _ = start(Perturbation(latency=Latency(steps=(late, late))), **engine)
    plain, _ = start(None, **engine)
    told = [forward(env, 0.03 - 0.005 * i) for i in range(6)]
    for _ in range(late):
        plain.step(torch.zeros(3, 7))
    for i, action in enumerate([*told, *[torch.zeros(3, 7)] * late]):
        env.step(action)
        if i >= late:
            plain.step(told[i - late])
    assert torch.allclose(env.world.command, plain.world.command, atol=1e-6)
    assert torch.allclose(env.world.qpos, plain.world.qpos, atol=1e-5)
    env.close()
    plain.close()


def test_latency_is_drawn_per_episode_and_forgets_the_last_one():
    env, _ = start(Perturbation(latency=Latency(steps=(0, 5))), seeds=MANY, render=False)
    late = env._workplace.perturber._delay.numbers["steps"]
    assert set(late.tolist()) == set(range(6))
    home = env.world.command[:, :7].clone()
    env.step(forward(env))
    assert torch.equal((env.world.command[:, :7] - home).abs().amax(1) > 0.01, late == 0)
    for _ in range(5):
        env.step(forward(env))
    env.reset(MANY)
    env.step(torch.zeros(64, 7))
    assert torch.allclose(env.world.command[:, :7], home, atol=1e-4)
    assert torch.allclose(env.world.command[:, 7], torch.tensor(0.04))
    env.close()


def test_action_noise_has_its_deviation_spares_the_gripper_and_repeats_for_a_seed():
    perturber = Perturber(Perturbation(action_noise=ActionNoise(std=(0.2, 0.2))), make_task("reach").props)
    env = TaskEnv("reach", 4, render=False, perturbation=perturber.perturbation)
    env.reset(range(4))
    perturber.bind(env._workplace.scene, env.embodiment.action)
    seeds = torch.arange(4000)
    random = EpisodeRandom(seeds)
    perturber.begin(random, seeds, 4000)
    actions, history = forward(env)[:1].repeat(4000, 1), torch.zeros(4000, 0, 7)
    noisy = [perturber.disturb(actions, history, random, torch.full((4000,), step)) for step in (0, 0, 1)]
    assert torch.equal(noisy[0], noisy[1]) and not torch.equal(noisy[0], noisy[2])
    deviation = (noisy[0] - actions).std(0)
    halves = torch.tensor([0.04] * 3 + [0.2] * 3)
    assert torch.allclose(deviation[:6] / halves, torch.tensor(0.2), atol=0.01) and deviation[6] == 0
    assert (noisy[0] - actions).mean(0).abs().max() < 0.002
    assert torch.corrcoef((noisy[0] - actions)[:, :6].T).fill_diagonal_(0).abs().max() < 0.06
    env.close()


def test_noisy_arms_wander_alike_whatever_the_number_of_worlds(engine):
    noise = Perturbation(action_noise=ActionNoise(std=(0.3, 0.3)))
    env, _ = start(noise, seeds=[4, 5, 6], **engine)
    alone, _ = start(noise, seeds=[5], **engine)
    plain, _ = start(None, seeds=[4, 5, 6], **engine)
    for _ in range(5):
        for each in (env, alone, plain):
            each.step(torch.zeros(each.num_envs, 7))
    assert torch.allclose(env.world.qpos[1:2], alone.world.qpos, atol=1e-5)
    assert (env.world.command - plain.world.command)[:, :7].abs().amax(1).min() > 0.01
    for each in (env, alone, plain):
        each.close()


def test_pushed_things_move_and_the_arm_does_not(engine):
    pushes = Pushes(probability=(1.0, 1.0), speed_m_s=(0.3, 0.3))
    seeds = list(range(8))
    env, _ = start(Perturbation(pushes=pushes), task="stack", seeds=seeds, **engine)
    plain, _ = start(None, task="stack", seeds=seeds, **engine)
    before = env.sense()
    for each in (env, plain):
        each.step(torch.zeros(8, 7))
    moved = (env.sense().position - before.position).norm(dim=-1)
    assert moved.amax(1).min() > 0.002 and (moved > 0.002).sum(1).max() == 1
    assert (plain.sense().position - before.position).norm(dim=-1).max() < 1e-3
    assert torch.allclose(env.sense().joints_rad, plain.sense().joints_rad, atol=1e-5)
    env.close()
    plain.close()


def test_pushes_are_as_frequent_and_fast_as_they_say_and_spare_what_is_held():
    env, _ = start(
        Perturbation(pushes=Pushes(probability=(0.1, 0.3), speed_m_s=(0.1, 0.2))),
        task="pick",
        seeds=list(range(400)),
        render=False,
    )
    sensed, random = env.sense(), EpisodeRandom(torch.arange(400))
    kicks = torch.stack(
        [env._workplace.perturber.kicks(random, torch.full((400,), step), sensed, env.layout) for step in range(50)]
    )
    speed = kicks.norm(dim=-1)
    assert (speed > 0).float().mean() == pytest.approx(0.2, abs=0.02)
    assert speed[speed > 0].min() > 0.0999 and speed.max() < 0.2001
    assert int((kicks != 0).any(0).any(0).sum()) == 2 * sum(prop.motion == "free" for prop in env.task.props)
    at_hand = sensed.tool_position[:, None].expand_as(sensed.position)
    held = replace(sensed, position=at_hand)
    assert not env._workplace.perturber.kicks(random, torch.zeros(400, dtype=torch.long), held, env.layout).any()
    env.close()


def test_nothing_to_carry_means_nothing_to_push():
    assert Perturber(
        Perturbation(pushes=Pushes(probability=(1, 1), speed_m_s=(0.1, 0.1))), make_task("button").props
    ).idle()


@pytest.mark.parametrize("axis", ["gains", "latency", "action_noise", "pushes"])
def test_experts_cope_with_the_training_ranges(axis):
    env = TaskEnv("pick", 40, render=False, perturbation=axes("randomised")[axis])
    env.reset(list(range(5000, 5040)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 34
    env.close()
