"""What commands do: they hold, they are followed, and every mode can do what the others can."""

import dataclasses

import pytest
import torch

from envs.control.modes import MODES
from envs.robots import make_robot
from envs.rotations import compose, matrix_from_vector, rotation_vector
from envs.specs import COMMAND_KEY, STATE_KEY
from envs.vector import TaskEnv

pytest.importorskip("mujoco_warp", reason="needs the extra warp")

ARMS = ("panda", "ur5e", "so100")
WORLDS = 20
SETTLE_STEPS = 25


def wandered(arm: str, engine: str = "cpu", worlds: int = WORLDS) -> TaskEnv:
    """Arms that have gone some way from home in place and turn, each its own, and have come to rest."""
    env = TaskEnv("reach", worlds, engine=engine, arm=make_robot(arm), render=False, max_episode_steps=10**6)
    env.reset(list(range(worlds)))
    generator = torch.Generator().manual_seed(0)
    away = torch.zeros(worlds, env.embodiment.action_dim)
    away[:, :3] = (torch.rand(worlds, 3, generator=generator) - 0.5) * torch.tensor([0.04, 0.06, 0.03])
    # Five joints cannot tilt the tool to the side, but they can turn it.
    tilts = torch.tensor([0.0, 0.0, 0.24]) if arm == "so100" else torch.full((3,), 0.2)
    away[:, 3:6] = (torch.rand(worlds, 3, generator=generator) - 0.5) * tilts
    for _ in range(6):
        env.step(away.to(env.device))
    rest(env)
    return env


@pytest.fixture(scope="module")
def at_rest():
    """Gives ``wandered`` arms of the cpu engine, made once and put back to where they came to rest."""
    made = {}

    def put_back(arm: str) -> TaskEnv:
        if arm not in made:
            env = wandered(arm)
            made[arm] = env, env.snapshot()
        env, snapshot = made[arm]
        env.restore(snapshot)
        return env

    yield put_back
    for env, _ in made.values():
        env.close()


def rest(env: TaskEnv, steps: int = SETTLE_STEPS) -> None:
    for _ in range(steps):
        env.step(torch.zeros(env.num_envs, env.embodiment.action_dim, device=env.device))


def moved(before, after) -> tuple[torch.Tensor, torch.Tensor]:
    """By how much tools went (m), and how far they turned (rad)."""
    turn = rotation_vector(compose(after.tool_rotation, before.tool_rotation.mT))
    return after.tool_position - before.tool_position, turn.norm(dim=-1)


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("engine", ["cpu", pytest.param("warp", marks=pytest.mark.slow)])
def test_zero_holds(at_rest, arm, engine):
    """From wherever the arm has come to rest, 100 zero actions move the tool less than 1 mm and half a degree."""
    env = at_rest(arm) if engine == "cpu" else wandered(arm, engine, 8)
    before = env.sense()
    rest(env, 100)
    way, turn = moved(before, env.sense())
    assert float(way.norm(dim=-1).max()) < 1e-3
    assert float(torch.rad2deg(turn).max()) < 0.5


def free_of_limits(env: TaskEnv) -> torch.Tensor:
    """Arms none of whose joints is at its limit and which are not stretched out: they can go any way."""
    joints = env.world.command[:, :-1]
    low, high = env._workplace.scene.joint_limits_rad.unbind(-1)
    jacobian = env._workplace.scene.chain.pose_and_jacobian(joints).jacobian
    rank = min(jacobian.shape[1:])
    return ((joints - low > 0.05) & (high - joints > 0.05)).all(-1) & (
        torch.linalg.svdvals(jacobian)[:, rank - 1] > 0.05
    )


@pytest.mark.parametrize("arm", ARMS)
@pytest.mark.parametrize("axis", range(3))
def test_a_commanded_path_is_followed(at_rest, arm, axis):
    """Ten commands of 10 mm end within 2 % of 100 mm, upwards, sideways and ahead."""
    env = at_rest(arm)
    before, can = env.sense(), free_of_limits(env)
    command = torch.zeros(WORLDS, 7)
    command[:, axis] = 0.01
    for _ in range(10):
        env.step(command)
    rest(env)
    way, turn = moved(before, env.sense())
    can &= free_of_limits(env)
    error = (way - 10 * command[:, :3]).norm(dim=-1)[can]
    assert int(can.sum()) > WORLDS // 2
    assert float(error.max()) < 0.02 * 0.1
    if arm != "so100":
        assert float(torch.rad2deg(turn[can]).max()) < 1.5


@pytest.mark.parametrize("arm", ["panda", "ur5e"])
def test_a_commanded_turn_is_followed(at_rest, arm):
    env = at_rest(arm)
    before, can = env.sense(), free_of_limits(env)
    command = torch.zeros(WORLDS, 7)
    command[:, 5] = 0.05
    for _ in range(10):
        env.step(command)
    rest(env)
    way, _ = moved(before, env.sense())
    wanted = compose(matrix_from_vector(10 * command[:, 3:6]), before.tool_rotation)
    off = rotation_vector(compose(env.sense().tool_rotation, wanted.mT)).norm(dim=-1)
    can &= free_of_limits(env)
    assert int(can.sum()) > WORLDS // 2
    assert float(off[can].max()) < 0.02 * 0.5 and float(way[can].norm(dim=-1).max()) < 2e-3


def test_what_commands_add_up_to_is_observed():
    env = TaskEnv("reach", 2, render=False)
    start = env.reset([0, 1])
    assert torch.allclose(start[COMMAND_KEY][:, :9], start[STATE_KEY][:, :9], atol=1e-6)
    assert torch.equal(start[COMMAND_KEY][:, 9], torch.zeros(2))
    action = torch.tensor([[0.03, 0.0, 0.01, 0.0, 0.0, 0.1, 1.0]]).repeat(2, 1)
    for step in range(1, 4):
        shown = env.step(action).observation[COMMAND_KEY]
        assert torch.allclose(shown[:, :3], start[COMMAND_KEY][:, :3] + step * action[:, :3], atol=1e-5)
    assert torch.equal(shown[:, 9], torch.ones(2))
    env.close()


def test_a_command_does_not_run_away_from_a_blocked_tool():
    """Pressed onto the table for two seconds, the tool is free again within a few steps up."""
    env = TaskEnv("reach", 1, render=False, max_episode_steps=10**6)
    env.reset([0])
    down, up = torch.zeros(1, 7), torch.zeros(1, 7)
    down[:, 2], up[:, 2] = -0.04, 0.04
    for _ in range(40):
        pressed = env.step(down).observation
    assert float(pressed[STATE_KEY][0, 2] - pressed[COMMAND_KEY][0, 2]) < 0.35
    for _ in range(14):
        env.step(up)
    assert float(env.sense().tool_position[0, 2] - pressed[STATE_KEY][0, 2]) > 0.02
    env.close()


@pytest.mark.parametrize("mode", MODES)
def test_experts_act_in_every_mode(mode):
    env = TaskEnv("place", 20, arm=dataclasses.replace(make_robot("panda"), control=mode), render=False)
    env.reset(list(range(20)))
    for _ in range(env.max_episode_steps):
        action = env.expert_action()
        low, high = torch.tensor(env.embodiment.action_low), torch.tensor(env.embodiment.action_high)
        assert bool((action >= low - 1e-4).all()) and bool((action <= high + 1e-4).all())
        last = env.step(action)
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 19
    env.close()


def test_modes_say_what_their_numbers_are():
    specs = {}
    for mode in MODES:
        env = TaskEnv("reach", 1, arm=dataclasses.replace(make_robot("panda"), control=mode), render=False)
        specs[mode] = env.embodiment.action
        env.close()
    assert [d.relative for d in specs["delta_pose"]] == [True] * 6 + [False]
    assert not any(d.relative for mode in ("absolute_pose", "joint_position") for d in specs[mode])
    assert [len(spec) for spec in specs.values()] == [7, 10, 8]
    assert {d.unit for d in specs["joint_position"][:7]} == {"rad"}
    assert specs["joint_position"][3].high == pytest.approx(-0.0698)
    assert [d.unit for d in specs["absolute_pose"]] == ["m"] * 3 + ["1"] * 6 + ["0 open … 1 closed"]


def test_an_absolute_pose_is_reached_and_kept():
    env = TaskEnv("reach", 1, arm=dataclasses.replace(make_robot("panda"), control="absolute_pose"), render=False)
    state = env.reset([0])[STATE_KEY]
    goal = torch.cat((state[:, :9], torch.zeros(1, 1)), -1)
    goal[:, :3] += torch.tensor([0.05, 0.12, 0.06])
    for _ in range(20):
        state = env.step(goal).observation[STATE_KEY]
    assert torch.allclose(state[:, :9], goal[:, :9], atol=2e-3)
    env.close()


def test_velocities_are_there_when_asked_for():
    env = TaskEnv("reach", 1, render=False, velocities=True)
    assert env.embodiment.state_dim == 10 + 14
    before = env.reset([0])[STATE_KEY]
    assert torch.equal(before[:, 17:], torch.zeros(1, 7))
    action = torch.zeros(1, 7)
    action[:, 1] = 0.03
    for _ in range(4):
        after = env.step(action).observation[STATE_KEY]
    assert torch.equal(after[:, 17:], env.world.qvel[:, :7]) and float(after[0, 17]) > 0.1
    env.close()


def test_kinematics_are_exact_whatever_precision_is_set():
    """The same episode under bfloat16 autocast and with TF32 allowed, to the last bit."""
    env = TaskEnv("place", 2, render=False)

    def episode():
        env.reset([0, 1])
        return [env.step(env.expert_action()).observation[STATE_KEY] for _ in range(15)]

    plain = episode()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = episode()
    assert all(torch.equal(a, b) for a, b in zip(plain, cast, strict=True))
    env.close()
