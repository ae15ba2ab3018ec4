"""Work in processes beside each other, or one after the other where there is one core."""

import os
from functools import partial

import pytest

from configs import side_by_side as module
from configs.side_by_side import side_by_side


def where(number: int, alone: bool) -> tuple[int, int, bool]:
    return number, os.getpid(), alone


def fail(alone: bool) -> None:
    raise ValueError("this cannot be")


@pytest.mark.parametrize("cores", [1, 2])
def test_all_is_done_in_order_and_each_knows_whether_it_is_alone(monkeypatch, cores):
    monkeypatch.setattr(module, "usable_cores", lambda: cores)
    found = side_by_side([partial(where, number) for number in range(3)])
    assert [number for number, _, _ in found] == [0, 1, 2]
    assert {alone for _, _, alone in found} == {cores == 1}
    assert (os.getpid() in {process for _, process, _ in found}) == (cores == 1)


def test_a_failure_is_that_of_the_work(monkeypatch):
    monkeypatch.setattr(module, "usable_cores", lambda: 2)
    with pytest.raises(ValueError, match="this cannot be"):
        side_by_side([partial(where, 0), fail])
