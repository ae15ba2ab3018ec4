"""One torch thread: small tensors are faster so, and results do not depend on the machine's cores. And what policies on
pretrained models learn from.
"""

import pytest
import torch
from demonstrations import record

torch.set_num_threads(1)


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """Demonstrations on a point mass."""
    return record(tmp_path_factory.mktemp("data") / "store")


@pytest.fixture(scope="module")
def checkpoint(tmp_path_factory):
    """Gives the folder of a tiny checkpoint of a family, made once."""
    from tiny_checkpoints import checkpoints  # with transformers, which most tests here do without

    return checkpoints(tmp_path_factory)
