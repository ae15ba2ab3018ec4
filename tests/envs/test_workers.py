"""Worlds in worker processes: shared, put together, killed, hung, poisoned, and left alone."""

import logging
import os
import signal
import sys
import time
from pathlib import Path

import numpy as np
import pytest
import torch

from envs.simulators.crew import Crew, EpisodeLostError
from envs.simulators.crew_env import CrewEnv, observation_rows
from envs.simulators.process import Simulator, WorldError
from envs.specs import DETERMINISTIC, EXPERT, SNAPSHOTS, CameraSpec, Dimension, EmbodimentSpec

TOY = Path(__file__).with_name("toy_simulator.py")
EMBODIMENT = EmbodimentSpec(
    name="point",
    control_rate_hz=10.0,
    state=tuple(Dimension(name=name, unit="m", low=-9, high=9) for name in "xy"),
    action=tuple(Dimension(name=f"d{name}", unit="m", low=-1, high=1, relative=True) for name in "xy"),
    cameras=(CameraSpec(name="eye", height_px=4, width_px=4),),
)
ROWS = observation_rows(EMBODIMENT, calibrated=False)


def crew_of(worlds, workers, limit_s=20.0, **settings):
    simulator = Simulator(python=Path(sys.executable), file=TOY, limit_s=limit_s, make_limit_s=20.0)
    return Crew("toy/push", simulator, [settings] * worlds, ROWS, workers)


def crew_env(worlds, workers, *, capabilities, **settings):
    crew = crew_of(worlds, workers, **settings)
    return CrewEnv(crew, EMBODIMENT, max_episode_steps=9, stream="learn", capabilities=capabilities)


def played(seeds, workers, steps=5, **settings):
    """State after each step of episodes that run together, and the crew's processes before and after."""
    crew = crew_of(len(seeds), workers, **settings)
    try:
        before = crew.pids
        crew.reset("learn", dict(enumerate(seeds)))
        states = [crew.observation["observation.state"].copy()]
        for step in range(steps):
            crew.step({world: np.full((1, 2), 0.01 * (step + 1)) for world in range(len(seeds))})
            states.append(crew.observation["observation.state"].copy())
        return np.stack(states), before, crew.pids
    finally:
        crew.close()


def alive(pid):
    return Path(f"/proc/{pid}").exists() and " Z " not in Path(f"/proc/{pid}/stat").read_text()


def gone_within(pids, seconds):
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline and any(map(alive, pids)):
        time.sleep(0.02)
    return not any(map(alive, pids))


def test_worlds_are_the_same_whoever_plays_them():
    seeds = [4, 5, 6]
    together, _, _ = played(seeds, workers=1)
    apart, pids, _ = played(seeds, workers=3)
    assert np.array_equal(together, apart) and len(set(pids)) == 3
    assert not np.allclose(together[0, 0], together[0, 1])


@pytest.mark.parametrize("fault", ["killed", "hung", "no number", "no reward"])
def test_what_happens_to_a_worker_costs_one_start_and_no_episode(fault, tmp_path, caplog):
    seeds = [12, 13, 14]
    expected, _, _ = played(seeds, workers=2)
    with caplog.at_level(logging.WARNING, "envs.simulators.crew"):
        states, before, after = played(
            seeds, workers=2, fault=fault, marks=str(tmp_path), limit_s=1.0 if fault == "hung" else 20.0
        )
    assert np.array_equal(states, expected), "the episode that was run again went another way"
    assert len(set(before) & set(after)) == 1, "one worker was replaced, and the other one was not"
    assert not any(map(alive, before))
    (told,) = [record.message for record in caplog.records]
    assert f"toy/push, seed 13 of the stream learn, step {3 if 'no ' in fault else 2}" in told
    if fault == "killed":
        assert "SIGKILL" in told and "about to be killed" in told


@pytest.mark.parametrize(("times", "survives"), [(2, True), (3, False)])
def test_an_episode_is_run_again_twice_and_then_given_up(times, survives, tmp_path):
    crew = crew_of(2, 1, fault="killed", marks=str(tmp_path), times=times)
    try:
        crew.reset("evaluate", {0: 13, 1: 14})
        crew.step({0: np.zeros((2, 2)), 1: np.zeros((2, 2))})
        if survives:
            assert crew.step({0: np.ones((1, 2)), 1: np.ones((1, 2))})[0].rewards.shape == (1,)
            return
        with pytest.raises(EpisodeLostError, match=r"toy/push, seed 13 of the stream evaluate, step 2.*given up"):
            crew.step({0: np.full((1, 2), 0.1), 1: np.full((1, 2), 0.1)})
        neighbour = crew.observation["observation.state"][1].copy()
        assert crew.steps[1] == 3, "its neighbour went on"
        with pytest.raises(RuntimeError, match="reset world 0"):
            crew.step({0: np.zeros((1, 2))})
        crew.reset("evaluate", {0: 15})
        assert crew.steps.tolist() == [0, 3] and np.array_equal(crew.observation["observation.state"][1], neighbour)
    finally:
        crew.close()


def test_a_worker_that_is_killed_between_calls_is_replaced_too():
    crew = crew_of(2, 2)
    try:
        crew.reset("learn", {0: 1, 1: 2})
        crew.step({0: np.full((2, 2), 0.1), 1: np.full((2, 2), 0.1)})
        expected = crew.observation["observation.state"] + np.float32(0.1)
        os.kill(crew.pids[0], signal.SIGKILL)
        crew.step({0: np.full((1, 2), 0.1), 1: np.full((1, 2), 0.1)})
        assert np.allclose(crew.observation["observation.state"], expected) and crew.steps.tolist() == [3, 3]
    finally:
        crew.close()


@pytest.mark.parametrize("fault", ["none", "killed when asked"])
def test_a_demonstrator_in_a_worker_acts_even_if_the_worker_dies_of_it(fault, tmp_path):
    env = crew_env(2, 2, fault=fault, marks=str(tmp_path), capabilities=frozenset({EXPERT, SNAPSHOTS, DETERMINISTIC}))
    try:
        start = env.reset([13, 14])["observation.state"].clone()
        moved = env.step(env.expert_action())
        assert torch.allclose(moved.observation["observation.state"][:, 0], start[:, 0] + (1 - start[:, 0]) / 4)
        assert len(list(tmp_path.iterdir())) == (fault != "none")
    finally:
        env.close()


def test_a_photograph_is_an_episode_played_again():
    env = crew_env(2, 1, capabilities=frozenset({SNAPSHOTS}))
    try:
        env.reset([4, 5])
        env.step_chunk(torch.full((2, 3, 2), 0.01))
        photograph = env.snapshot()
        expected = env.step_chunk(torch.full((2, 2, 2), 0.02)).observation["observation.state"]
        env.reset([8, 9])
        shown = env.restore(photograph.take([1, 0]))
        assert shown["task"] == ["push to 1.0 (5)", "push to 1.0 (4)"]
        again = env.step_chunk(torch.full((2, 2, 2), 0.02)).observation["observation.state"]
        assert torch.equal(again, expected.flip(0))
        with pytest.raises(RuntimeError, match="toy/push has no demonstrator"):
            env.expert_action()
    finally:
        env.close()


def test_an_exception_of_the_simulator_is_told_with_its_episode(tmp_path):
    crew = crew_of(2, 2, fault="raised", marks=str(tmp_path))
    try:
        crew.reset("learn", {0: 13, 1: 14})
        with pytest.raises(WorldError, match=r"(?s)seed 13 of the stream learn, step 2 failed:.*the point is tired"):
            crew.step({0: np.zeros((5, 2)), 1: np.zeros((5, 2))})
        assert crew.steps[1] == 5
    finally:
        crew.close()


def test_worlds_that_cannot_be_made_say_why():
    with pytest.raises(RuntimeError, match=r"(?s)toy/push cannot be made: .*no such scene: table.xml"):
        crew_of(1, 1, fault="unmakeable")
    with pytest.raises(ValueError, match="1 … 2 workers for 2 worlds, got 3"):
        crew_of(2, 3)


def test_workers_work_at_the_same_time():
    crew = crew_of(4, 4, slow_s=0.2)
    try:
        crew.reset("learn", dict(enumerate([1, 2, 3, 4])))
        began = time.monotonic()
        crew.step({world: np.zeros((2, 2)) for world in range(4)})
        took_s = time.monotonic() - began
    finally:
        crew.close()
    assert took_s < 4 * 2 * 0.2, "one after the other they would sleep for 1.6 s"


def test_nothing_is_left_behind_when_the_program_is_killed():
    shared = set(os.listdir("/dev/shm"))
    reading, writing = os.pipe()
    program = os.fork()
    if not program:
        crew = crew_of(2, 2, slow_s=600.0)
        crew.reset("learn", {0: 1, 1: 2})
        os.write(writing, " ".join(map(str, crew.pids)).encode())
        crew.step({0: np.zeros((1, 2)), 1: np.zeros((1, 2))})
        os._exit(0)
    pids = [int(pid) for pid in os.read(reading, 100).split()]
    assert len(pids) == 2 and all(map(alive, pids))
    os.kill(program, signal.SIGKILL)
    os.waitpid(program, 0)
    assert gone_within(pids, 10.0), "a worker outlived its program, in the middle of a step"
    assert set(os.listdir("/dev/shm")) <= shared


def test_closing_ends_the_workers_and_can_be_done_twice():
    crew = crew_of(2, 2)
    pids = crew.pids
    crew.close()
    crew.close()
    assert gone_within(pids, 5.0)
    with pytest.raises(RuntimeError, match="closed"):
        crew.reset("learn", {0: 1})


def test_a_worker_sees_none_of_our_packages(tmp_path):
    nosy = tmp_path / "nosy.py"
    nosy.write_text(
        "import sys\n"
        "def make_world():\n"
        "    ours = [name for name in sys.modules if name.split('.')[0] in ('torch', 'envs', 'jaxtyping')]\n"
        f"    paths = [path for path in sys.path if path in ('', {str(TOY.parents[2])!r})]\n"
        "    raise RuntimeError(f'there are {ours} on {paths}')\n"
    )
    simulator = Simulator(python=Path(sys.executable), file=nosy)
    with pytest.raises(RuntimeError, match=r"there are \[\] on \[\]"):
        Crew("toy/nosy", simulator, [{}], ROWS)


@pytest.fixture
def env():
    made = CrewEnv(
        crew_of(3, 2), EMBODIMENT, max_episode_steps=6, stream="learn", capabilities=frozenset({"deterministic"})
    )
    yield made
    made.close()


def test_the_vector_environment_keeps_its_contract(env):
    observation = env.reset([1, 2, 3])
    assert observation["task"] == ["push to 1.0 (1)", "push to 1.0 (2)", "push to 1.0 (3)"]
    assert env.goals == ["at 1.0"] * 3 and observation["observation.images.eye"].dtype == torch.uint8
    actions = torch.zeros(3, 4, 2)
    actions[1, :, 0] = 1.0  # solved in its second step, or its first
    moved = env.step_chunk(actions)
    assert moved.ended == [1] and moved.success.tolist() == [False, True, False]
    assert moved.steps[1] in (1, 2) and moved.steps[0] == 4 and moved.reward.tolist() == [0.0, 1.0, 0.0]
    assert moved.rewards[1, moved.steps[1] - 1] == 1 and bool(env.stages_done[1])
    kept = moved.observation["observation.state"].clone()
    last = env.step_chunk(actions)
    assert torch.equal(moved.observation["observation.state"], kept), "a later step wrote into an earlier observation"
    assert last.steps.tolist() == [2, 0, 2] and last.ended == [0, 2] and last.truncated.tolist() == [True, False, True]
    again = env.reset([0, 9, 0], torch.tensor([False, True, False]))
    assert again["task"][1] == "push to 1.0 (9)" and env.step(torch.zeros(3, 2)).steps.tolist() == [0, 1, 0]


def test_after_an_episode_that_is_given_up_every_world_starts_anew(tmp_path):
    crew = crew_of(2, 2, fault="killed", marks=str(tmp_path), times=9)
    env = CrewEnv(crew, EMBODIMENT, max_episode_steps=9, stream="learn", capabilities=frozenset())
    try:
        env.reset([13, 1])
        with pytest.raises(EpisodeLostError, match="run again 2 times and is given up"):
            env.step_chunk(torch.zeros(2, 4, 2))
        with pytest.raises(RuntimeError, match="call reset"):
            env.step(torch.zeros(2, 2))
        env.reset([1, 2])
        assert env.step(torch.zeros(2, 2)).steps.tolist() == [1, 1]
    finally:
        env.close()


def test_actions_that_are_no_numbers_are_refused_when_the_other_worlds_have_moved(env):
    env.reset([1, 2, 3])
    actions = torch.zeros(3, 2)
    actions[1, 0] = float("nan")
    with pytest.raises(ValueError, match=r"worlds \[1\] are not finite"):
        env.step(actions)
    assert env.crew.steps.tolist() == [1, 0, 1]
    with pytest.raises(ValueError, match=r"got \(3, 1, 5\)"):
        env.step(torch.zeros(3, 5))
