"""Attempts in real worlds that the expert acts in, by the words of those who know, and of those who do not."""

from types import SimpleNamespace

import pytest
import torch

from envs.specs import STATE_KEY
from envs.tasks.both_ways import both_ways
from envs.vector import TaskEnv
from policies.training.group import Part
from rl.robofume.attempts import Attempts, SimulatorsWord
from rl.robofume.config import RoboFuMEConfig
from rl.robofume.learner import worth
from rl.rollout import Stopwatch

WORLDS, WAYS = 3, ("open-drawer", "close-drawer")


class ActsAsTheExpert:
    """As much of an agent as attempts ask of one."""

    execute = 1

    def __init__(self, env):
        self._env = env

    def look(self, observation):
        return {"x": observation[STATE_KEY]}

    def see(self, looked):
        return looked["x"]

    def distribution(self, seen):
        return SimpleNamespace(sample=lambda generator: SimpleNamespace(actions=torch.zeros(len(seen), 1, 7)))

    def executable(self, actions):
        return self._env.expert_action()[:, None]

    def normalized(self, actions):
        return actions


class Hasty(SimulatorsWord):
    """Says after ten control steps that it is done, whatever is true."""

    def start(self, observation, goals, mask=None):
        chosen = torch.ones(WORLDS, dtype=torch.bool) if mask is None else mask
        self._left = torch.where(chosen, 10, torch.zeros(WORLDS) if mask is None else self._left)

    def __call__(self, before, transition):
        self._left = self._left - transition.steps
        return (self._left == 0).float()


def lived(word=SimulatorsWord, decisions=90, **fields):
    env = TaskEnv(both_ways("open-drawer"), WORLDS, render=False, threads=1, stream="learn")
    about = {"ways": WAYS, "discount": 0.9, "seed": 0}
    attempts = Attempts(
        ActsAsTheExpert(env), env, Part(0, WORLDS, WORLDS), word(env), RoboFuMEConfig(**fields), **about
    )
    attempts.begin()
    found = attempts.collect(decisions, torch.Generator(), Stopwatch(torch.device("cpu")))
    env.close()
    return found


def test_a_true_word_turns_round_what_is_asked_and_nothing_is_put_back():
    found = lived()
    known = worth(found.counts.sum(0).tolist())
    assert known["precision"] == 1 and known["recall"] == 1 and known["resets_per_attempt"] == 0
    assert int(found.counts[:, 0].min()) >= WORLDS  # both ways, again and again
    columns = found.columns
    assert torch.equal(columns["rewards"], 10.0 * columns["terminated"]) and found.final is None
    assert torch.equal(columns["ended"].sum(), torch.cat([each.said for each in found.over]).sum().long())


def test_where_each_attempt_is_followed_by_a_reset_as_many_are_put_back():
    known = worth(lived(resets="attempts", decisions=60).counts.sum(0).tolist())
    assert known["resets_per_attempt"] == 1 and known["precision"] == 1


def test_a_word_that_is_not_true_is_found_out():
    """Every other time: who is asked to open, and is believed to have, is asked to close what never was open."""
    found = lived(word=Hasty, decisions=40)
    attempts, said, true, both, steps, _ = found.counts.sum(0).tolist()
    assert attempts == said == 4 * WORLDS and steps == 40 * WORLDS
    assert both == true == 2 * WORLDS
    first, second, *_ = (each for each in found.over if len(each.said))
    assert not first.true.any() and second.true.all()


@pytest.mark.parametrize("resets", ["bounds", "attempts"])
def test_what_takes_too_long_is_cut_short_and_what_was_seen_last_is_kept(resets):
    found = lived(decisions=12, attempt_steps=5, resets=resets)
    columns = found.columns
    assert columns["ended"][4].all() and columns["ended"][9].all() and not columns["terminated"].any()
    if resets == "bounds":
        assert found.final is None and not columns["put_back"].any()
    else:
        assert columns["put_back"][[4, 9]].flatten().tolist() == [1, 2, 3, 4, 5, 6]
        assert not torch.equal(found.final["x"][0], columns["looked/x"][5, 0])  # not what the next one begins with
