import logging
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from serving_fakes import EMBODIMENT, LinearPolicy

from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running

torch.set_num_threads(1)
logging.getLogger("policies.serving.server.websockets").setLevel(logging.CRITICAL)


@pytest.fixture(autouse=True)
def no_token_from_outside(monkeypatch):
    monkeypatch.delenv("VLA_SERVE_TOKEN", raising=False)


@pytest.fixture
def policy() -> LinearPolicy:
    return LinearPolicy()


@pytest.fixture
def server(policy) -> Iterator[PolicyServer]:
    server = PolicyServer(policy, ServeConfig(port=0))
    with running(server):
        yield server


@pytest.fixture
def client(server) -> Iterator[PolicyClient]:
    with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{server.port}"), expected=EMBODIMENT) as client:
        yield client


@pytest.fixture
def rng() -> np.random.Generator:
    return np.random.default_rng(0)
