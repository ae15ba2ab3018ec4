"""Frames to remember, against the rule carried out frame by frame, one scene at a time."""

import itertools

import numpy as np
import pytest
import torch

from vla.spatial.memory_bank import sample_frames


def remembered(features, valid, budget):
    unit = features / np.linalg.norm(features, axis=-1, keepdims=True)
    bank = [len(unit) - 1]
    for time in reversed(range(len(unit) - 1)):
        if not valid[time] or budget == 1:
            continue
        if len(bank) == budget:
            pairs = [unit[a] @ unit[b] for a, b in itertools.pairwise(bank)]
            if unit[bank[-1]] @ unit[time] >= max(pairs):
                continue
            del bank[int(np.argmax(pairs)) + 1]
        bank.append(time)
    return sorted(bank)


@pytest.mark.parametrize("budget", [1, 2, 3, 5, 30])
def test_the_frames_are_those_of_the_rule(budget):
    features, valid = torch.randn(6, 20, 4), torch.rand(6, 20) > 0.2
    valid[:, -1] = True
    valid[0, :-1] = False
    found = sample_frames(features, valid, budget)
    for row in range(6):
        expected = remembered(features[row].double().numpy(), valid[row].numpy(), budget)
        assert found.times[row][found.mask[row]].tolist() == expected
        assert found.mask[row].tolist() == [False] * (budget - len(expected)) + [True] * len(expected)
        assert (found.times[row][~found.mask[row]] == 0).all()


def test_a_long_stillness_takes_one_place_of_the_memory():
    """Something happens in four of forty frames; else nothing changes."""
    features = torch.zeros(1, 40, 6)
    features[..., 0] = 1
    for axis, time in enumerate((5, 12, 20, 33)):
        features[0, time] = torch.eye(6)[axis + 1]
    times = sample_frames(features, torch.ones(1, 40, dtype=torch.bool), 8).times[0].tolist()
    assert {5, 12, 20, 33, 39} <= set(times)


def test_a_batch_is_its_rows_and_scale_does_not_matter():
    features, valid = torch.randn(4, 15, 3), torch.ones(4, 15, dtype=torch.bool)
    whole = sample_frames(features, valid, 4)
    assert torch.equal(sample_frames(8 * features[2:3], valid[2:3], 4).times[0], whole.times[2])


def test_a_budget_of_nothing_is_refused():
    with pytest.raises(ValueError, match="at least 1 frame, got 0"):
        sample_frames(torch.zeros(1, 2, 3), torch.ones(1, 2, dtype=torch.bool), 0)
