"""Suites: ten tasks each, words that point at exactly one thing, experts that do what is said."""

import pytest
import torch

from envs.specs import TASK_KEY
from envs.suites import SUITES, find_task, task_names
from envs.suites.spatial import CLEAR_BY_M, SPOTS
from envs.vector import TaskEnv

ALL = [task for suite in SUITES.values() for task in suite.task_names]


def test_every_suite_has_ten_tasks():
    assert all(len(suite.tasks) == 10 for suite in SUITES.values())


@pytest.mark.parametrize("name", ALL)
def test_held_out_phrasings_never_occur_in_training(name):
    seen = {}
    for split in ("train", "held_out"):
        env = TaskEnv(name, 32, render=False, split=split)
        seen[split] = set(env.reset(list(range(32)))[TASK_KEY])
        env.close()
    assert not seen["train"] & seen["held_out"] and len(seen["train"]) > 1 and len(seen["held_out"]) > 1


@pytest.mark.parametrize("suite", sorted(SUITES))
def test_sentences_of_a_suite_tell_its_tasks_apart(suite):
    sentences = []
    for task in SUITES[suite].tasks:
        env = TaskEnv(task, 32, render=False)
        sentences.append(set(env.reset(list(range(32)))[TASK_KEY]))
        env.close()
    assert len(set.union(*sentences)) == sum(map(len, sentences))


def test_the_cube_in_the_named_spot_is_clear():
    clear = []
    for spot in SPOTS:
        env = TaskEnv(f"tabletop-spatial/{spot}", 200, render=False)
        env.reset(list(range(200)))
        flat = env.layout.position[..., :2]
        measured = SPOTS[spot][1](flat[:, :3], flat[:, 3:4], flat[:, 4:5])
        assert torch.equal(measured.argmin(1), env.layout.roles["block"])
        least = measured.sort(dim=1).values
        clear.append(least[:, 1] - least[:, 0] >= CLEAR_BY_M)
        assert len(set(env.layout.colour[0, :3].tolist())) == 1
        env.close()
    assert torch.stack(clear).float().mean() > 0.99


PLAYED = tuple(f"tabletop-spatial/{spot}" for spot in list(SPOTS)[::4])
ELSEWHERE = "tabletop-spatial/", "tabletop-long/"
"""One expert goes to all spots; those of chains are played in ``test_chain``, from other seeds."""


@pytest.mark.parametrize(
    "name",
    [
        pytest.param(name, marks=pytest.mark.slow) if name.startswith(ELSEWHERE) and name not in PLAYED else name
        for name in ALL
    ],
)
def test_experts_succeed(name):
    env = TaskEnv(name, 20, render=False)
    env.reset(list(range(3000, 3020)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
        if bool((last.terminated | last.truncated).all()):
            break
    assert int(last.success.sum()) >= 18
    env.close()


def test_names_are_resolved_and_unknown_ones_refused():
    assert task_names(["reach", "tabletop-spatial", "reach"]) == ("reach", *SUITES["tabletop-spatial"].task_names)
    assert find_task("tabletop-object/red-ball").name == "tabletop-object/red-ball"
    with pytest.raises(ValueError, match="unknown suite 'tabletop-x'; expected one of tabletop-spatial"):
        find_task("tabletop-x/leftmost")
    with pytest.raises(
        ValueError, match="unknown task 'tabletop-object/mug'; expected one of tabletop-object/red-ball"
    ):
        find_task("tabletop-object/mug")
    with pytest.raises(ValueError, match="unknown task or suite 'fold'; expected one of reach"):
        task_names(["fold"])
