"""Comparison of two evaluations: pairs are pairs, ties are ties, and what does not pair is refused."""

from dataclasses import replace

import numpy as np
import pytest

from policies.comparison import A_BETTER, ALL, B_BETTER, TIE, UnpairedError, compare, label
from policies.conditions import Condition
from policies.episode_log import EpisodeRecord, EpisodeResult, FinishedEpisode


def records(won, first_seed=0, goal="the red dot", means=None, **condition):
    condition = Condition(**{"task": "reach", **condition})
    return [
        EpisodeRecord(
            condition=condition,
            episode=FinishedEpisode(
                result=EpisodeResult(
                    task=condition.task,
                    seed=seed,
                    instruction=goal,
                    goal=goal,
                    same_goal=True,
                    success=bool(success),
                    steps=3,
                    reward=0.0,
                    stages_done=0,
                    stages=1,
                    instruction_means=means,
                    goal_means=means,
                ),
                wall_s=1.0,
            ),
        )
        for seed, success in enumerate(won, start=first_seed)
    ]


def test_the_p_value_is_that_of_an_exact_test_whatever_the_order_of_the_records():
    stats = pytest.importorskip("scipy.stats")
    rng = np.random.default_rng(3)
    a, b = rng.random(120) < 0.8, rng.random(120) < 0.6
    (found,) = compare(records(a)[::-1], records(b))
    only_a, only_b = int((a & ~b).sum()), int((b & ~a).sum())
    assert (found.difference.only_a, found.difference.only_b) == (only_a, only_b) and found.episodes == 120
    assert found.difference.p_value == pytest.approx(stats.binomtest(only_a, only_a + only_b).pvalue)
    assert found.difference.value == pytest.approx(a.mean() - b.mean())
    assert (found.a.value, found.b.value) == (a.mean(), b.mean())
    assert found.verdict == A_BETTER and compare(records(b), records(a))[0].verdict == B_BETTER


def test_what_the_noise_explains_is_a_tie():
    a, b = [True] * 14 + [False] * 6, [True] * 11 + [False] * 9
    (found,) = compare(records(a), records(b))
    assert found.verdict == TIE == found.to_dict()["verdict"] and found.difference.lo <= 0 < found.difference.value


def test_tasks_are_compared_one_by_one_and_pooled_under_each_condition():
    def both(rate, **condition):
        return [*records([1] * rate + [0] * (10 - rate), **condition), *records([1] * rate, task="pick", **condition)]

    light = {"perturbation": "colosseum-14:light"}
    found = compare([*both(9), *both(4, **light)], [*both(9), *both(4, **light)])
    shown = [(label(each.condition), each.episodes) for each in found]
    assert shown[:2] == [("pick", 9), ("reach", 10)] and shown[-2:] == [(ALL, 19), (f"{ALL}, colosseum-14:light", 14)]
    assert len(shown) == 6


def test_runs_that_do_not_pair_are_refused_by_what_differs():
    usual, more = records([1] * 5), [*records([1] * 8), *records([1, 0], task="pick")]
    with pytest.raises(UnpairedError, match=r"only B has pick \(seeds 0 … 1\), reach \(seeds 5 … 7\)"):
        compare(usual, more)
    assert [each.episodes for each in compare(usual, more, common=True)] == [5]
    with pytest.raises(UnpairedError, match=r"no episode in common: only A has reach .* B has reach, shuffled inst"):
        compare(usual, records([1] * 5, instructions="shuffled"), common=True)
    with pytest.raises(UnpairedError, match="seed 0 of reach is another episode in each: 'the red dot' in A, 'the b"):
        compare(usual, records([1] * 5, goal="the blue dot"))


def told(found, *instructions):
    """The same episodes, in which the policy was told something else."""
    results = [
        replace(record.episode.result, instruction=text, instruction_means=text)
        for record, text in zip(found, instructions, strict=True)
    ]
    return [
        replace(record, episode=replace(record.episode, result=result))
        for record, result in zip(found, results, strict=True)
    ]


def test_what_is_asked_counts_and_not_how_it_is_worded():
    plain, polite = (
        records([1] * 5, goal=goal, means="the red dot") for goal in ("the red dot", "please, the red dot")
    )
    assert compare(plain, polite)[0].episodes == 5
    old = records([1] * 5)
    assert compare(plain, old)[0].episodes == 5
    with pytest.raises(UnpairedError, match="seed 0 of reach is another episode in each: 'please, the red dot' in A"):
        compare(polite, old)


def test_pairs_that_were_not_told_the_same_are_left_out_and_counted():
    shuffled = {"means": "red", "instructions": "shuffled"}
    long = told(records([1] * 4, **shuffled), "red", "blue", "red", "blue")
    short = told(records([0] * 3, **shuffled), "red", "blue", "blue")
    (found,) = compare(long, short, common=True)
    assert (found.episodes, found.left_out, found.to_dict()["left_out"]) == (2, 1, 1) and found.a.value == 1
    other = told(records([1] * 3, task="pick", **shuffled), "red", "red", "red")
    pooled = compare([*long, *other], [*short, *other], common=True)[-1]
    assert (pooled.condition.task, pooled.episodes, pooled.left_out) == (ALL, 5, 1)
    with pytest.raises(UnpairedError, match="seed 2 of reach is told another thing in each: 'red' in A, 'blue' in B"):
        compare(long[:3], short)
    with pytest.raises(UnpairedError, match="not asked and told the same in any of 1 episodes"):
        compare(long[2:3], short, common=True)
    assert compare(long[:3], records([0] * 3, means="red"), across=["instructions"])[0].episodes == 3


def test_an_ablation_is_compared_across_what_is_left_out():
    usual = records([1] * 9 + [0])
    deaf = records([1] + [0] * 9, instructions="none", without=("language",))
    with pytest.raises(UnpairedError, match="only B has reach, without language"):
        compare(usual, deaf)
    assert compare(usual, deaf, across=["without"])[0].verdict == A_BETTER
    with pytest.raises(UnpairedError, match="B has several episodes of reach, seed 0, which differ in without"):
        compare(usual, [*usual, *deaf], across=["without"])
