"""What tests of the benchmarks' own modules share."""

import sys

import pytest

from configs.machine import CHECKOUT


@pytest.fixture(scope="module")
def benchmarks():
    """The folder of benchmarks is on the path, as it is for each of its scripts."""
    sys.path.insert(0, str(CHECKOUT / "benchmarks"))
    try:
        yield
    finally:
        sys.path.remove(str(CHECKOUT / "benchmarks"))
