"""What is kept of decisions, and found again: what came after each, and what came of it."""

import torch

from rl.robofume.replay import LOOKED, Demonstrated, Lived
from vla.observation import ActionChunk


def iteration(first, terminated=(), ended=(), put_back=()):
    """Two decisions in three worlds; what is seen before decision t in world i is 10 t + i."""
    seen = (10.0 * (first + torch.arange(2))[:, None] + torch.arange(3))[..., None]
    flags = {name: torch.zeros(2, 3, dtype=torch.bool) for name in ("terminated", "ended")}
    counted = torch.zeros(2, 3, dtype=torch.long)
    for name, where in (("terminated", terminated), ("ended", (*ended, *terminated, *put_back))):
        for at in where:
            flags[name][at] = True
    for number, at in enumerate(put_back, start=1):
        counted[at] = number
    rewards = 8.0 * flags["terminated"]
    steps = torch.full((2, 3), 2)
    actions = torch.zeros(2, 3, 1, 1)
    return {f"{LOOKED}x": seen, **flags, "put_back": counted, "rewards": rewards, "steps": steps, "actions": actions}


def test_what_follows_a_decision_is_kept_once_and_found():
    """World 1 is put back after its second decision, and once more after its fourth; returns of earlier decisions are
    known once an attempt is over.
    """
    lived = Lived(0.5**0.5, span=4)  # two steps halve
    ahead = {"x": torch.tensor([[20.0], [21.0], [22.0]])}
    lived.append(iteration(0, put_back=[(1, 1)]), ahead, {"x": torch.tensor([[-1.0]])}, lambda seen: seen["x"][:, 0])
    moves = lived.moves(torch.arange(6))
    assert moves.seen["x"][:, 0].tolist() == [0, 1, 2, 10, 11, 12]
    assert moves.then["x"][:, 0].tolist() == [10, 11, 12, 20, -1, 22]
    assert torch.allclose(moves.returns, torch.tensor([5.0, -0.25, 5.5, 10.0, -0.5, 11.0]))
    ahead = {"x": torch.tensor([[40.0], [41.0], [42.0]])}
    after = iteration(2, terminated=[(0, 0)], put_back=[(1, 1)])
    lived.append(after, ahead, {"x": torch.tensor([[-2.0]])}, lambda seen: seen["x"][:, 0])
    moves = lived.moves(torch.arange(12))
    assert moves.then["x"][:, 0].tolist() == [10, 11, 12, 20, -1, 22, 30, 31, 32, 40, -2, 42]
    assert torch.allclose(moves.returns[:3], torch.tensor([2.0, -0.25, 42 / 16]))  # a success after all; still going on
    assert torch.allclose(moves.discount, torch.full((12,), 0.5)) and moves.terminated.nonzero().tolist() == [[6]]
    again = Lived(0.5**0.5, span=4)
    again.restore(lived.tensors())
    assert all(torch.equal(a, b) for a, b in zip(again.moves(torch.arange(12))[1:-1], moves[1:-1], strict=True))


def test_every_frame_of_a_demonstration_is_a_decision():
    """An episode of five frames, of which three are executed at a time: its success pays in the fifth step."""
    actions = torch.arange(5.0)[:, None, None].expand(5, 4, 1)
    known = Demonstrated(
        looked={"x": torch.arange(5.0)[:, None]},
        chunk=ActionChunk(actions=actions, valid=torch.ones(5, 4, dtype=torch.bool)),
        left=torch.tensor([5, 4, 3, 2, 1]),
        execute=3,
        discount=0.5,
        earned=16.0,
    )
    moves = known.moves(torch.arange(5))
    assert moves.returns.tolist() == [1, 2, 4, 8, 16] and moves.rewards.tolist() == [0, 0, 4, 8, 16]
    assert moves.terminated.tolist() == [False, False, True, True, True]
    assert moves.then["x"][:2, 0].tolist() == [3, 4]
    consistent = moves.rewards[:2] + moves.discount[:2] * moves.returns[moves.then["x"][:2, 0].long()]
    assert torch.equal(consistent, moves.returns[:2])  # a critic that says the returns has no error
