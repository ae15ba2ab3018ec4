"""A training that is stopped in the middle."""

from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from policies.training.learner import Learner


@contextmanager
def stopped_before(step: int, learner: type[Learner]) -> Iterator[None]:
    """Within the block a training of ``learner`` ends by Ctrl-C before it takes the 0-based ``step``, as it must."""
    original = learner.step

    def stopping(self, at):
        if at == step:
            raise KeyboardInterrupt
        return original(self, at)

    with pytest.MonkeyPatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(learner, "step", stopping)
        yield
