"""The lab on episodes of a real environment: what the scripts do, what is measured of scores, what is saved."""

import json
import math

import numpy as np
import pytest
import torch
from tiny_rewards import Rightness, SeenNearness, steered

from envs.specs import STATE_KEY, image_key
from rl.rewards.classifier import calibrate
from rl.rewards.config import LabConfig
from rl.rewards.failures import KINDS, record_kinds
from rl.rewards.lab import COLUMNS, examine, report, rows_of, save_reports, score
from rl.rewards.measures import auc, spearman


@pytest.fixture(scope="module")
def traces():
    return {stream: record_kinds(steered(7, stream=stream), range(12), 2) for stream in ("learn", "evaluate")}


def of(traces, kind):
    return [trace for trace in traces if trace.kind == kind]


def test_every_seed_has_an_episode_of_each_kind(traces):
    for recorded in traces.values():
        for kind in KINDS:
            assert [trace.seed for trace in of(recorded, kind)] == list(range(12))
        experts = of(recorded, "expert")
        assert all(trace.success for trace in experts) and not any(trace.success for trace in of(recorded, "half-way"))
        for trace in recorded:
            assert trace.steps[0] == 0 and (trace.steps.diff() <= 2).all() and (trace.steps.diff() > 0).all()
            assert set(trace.shown) == {STATE_KEY, image_key("front")}
            assert all(len(tensor) == len(trace) for tensor in trace.shown.values())


def test_the_scripts_do_what_they_are_called(traces):
    recorded = traces["evaluate"]
    for expert, half in zip(of(recorded, "expert"), of(recorded, "half-way"), strict=True):
        assert torch.equal(expert.shown[STATE_KEY][0], half.shown[STATE_KEY][0])
        assert int(half.steps[-1]) <= math.ceil(1.25 * int(expert.steps[-1]))
    for expert, other in zip(of(recorded, "expert"), of(recorded, "other goal"), strict=True):
        assert other.success == (other.goal == expert.goal) and other.shown is expert.shown
    alone = record_kinds(steered(2, stream="evaluate"), range(12), 2)
    for a, b in zip(sorted(alone, key=order), sorted(recorded, key=order), strict=True):
        assert torch.equal(a.shown[STATE_KEY], b.shown[STATE_KEY])  # however many worlds at once


def order(trace):
    return trace.kind, trace.seed


def test_the_numbers_are_those_of_their_definitions(traces):
    recorded, config = traces["evaluate"], LabConfig(precision=0.8, votes=1)
    scores, seconds = score(Rightness(), recorded)
    assert seconds > 0 and [len(each) for each in scores] == [len(trace) for trace in recorded]
    for each, trace in zip(scores, recorded, strict=True):
        assert torch.equal(each, trace.shown[STATE_KEY][:, 0])
    found = report("point", recorded, scores, 0.25, config)
    won = [trace.success for trace in recorded]
    last = np.array([float(each[-1]) for each in scores])
    assert found.auc.value == auc(last[won], last[~np.array(won)])
    highest = np.array([float(each.max()) for each in scores])
    assert found.false_positives.value == pytest.approx(np.mean(highest[~np.array(won)] >= 0.25))
    assert found.recall.value == pytest.approx(np.mean(highest[won] >= 0.25))
    along = [
        spearman(each.tolist(), trace.steps.tolist())
        for each, trace in zip(scores, recorded, strict=True)
        if trace.success and trace.kind != "other goal"
    ]
    assert found.order.value == pytest.approx(np.mean(along))
    assert set(found.auc_of) <= set(KINDS) - {"expert"} and found.successes == sum(won)


def test_a_good_score_is_told_from_one_that_knows_nothing(traces, tmp_path):
    reports = [
        examine(scorer, traces["learn"], traces["evaluate"], LabConfig(precision=1.0))
        for scorer in (SeenNearness(), Rightness())
    ]
    good, bad = (each.of("point") for each in reports)
    assert good.auc.value > 0.95 > bad.auc.hi and good.order.value > 0.9
    assert good.false_positives.value < 0.2 and good.recall.value > 0.8
    assert all(value > 0.9 for value in good.auc_of.values())
    path = tmp_path / "folder/rewards.json"
    save_reports(reports, {"seeds": [0, 11]}, path)
    saved = json.loads(path.read_text(encoding="utf-8"))
    assert saved["seeds"] == [0, 11] and [each["name"] for each in saved["scores"]] == ["seen-nearness", "rightness"]
    assert saved["scores"][0]["tasks"][0]["auc"]["value"] == good.auc.value
    table = rows_of(reports)
    assert [len(row) for row in table] == [len(COLUMNS)] * 2 and table[0][:2] == ("seen-nearness", "point")


def test_nothing_to_compare_is_refused(traces):
    with pytest.raises(ValueError, match="at least two seeds"):
        record_kinds(steered(2), [0], 1)
    with pytest.raises(ValueError, match="to calibrate on"):
        examine(Rightness(), [], traces["learn"], LabConfig())
    with pytest.raises(ValueError, match="precision"):
        LabConfig(precision=0.0)
    assert not calibrate([math.inf * -1, 0.0], [True, False], 0.9).reached
