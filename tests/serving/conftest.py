import logging
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

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


@pytest.fixture(scope="session")
def make_certificate(tmp_path_factory) -> Callable[[str], tuple[Path, Path]]:
    """Makes a self-signed certificate and its key for a subject's names, such as ``DNS:localhost,IP:127.0.0.1``."""

    def make(names: str = "DNS:localhost,IP:127.0.0.1") -> tuple[Path, Path]:
        folder = tmp_path_factory.mktemp("tls")
        cert, key = folder / "cert.pem", folder / "key.pem"
        kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "1"]
        subject = ["-subj", "/CN=policy", "-addext", f"subjectAltName={names}"]
        command = ["openssl", "req", "-x509", *kind, "-keyout", key, "-out", cert, *subject]
        try:
            subprocess.run(command, check=True, capture_output=True)
        except FileNotFoundError:
            pytest.skip("openssl is not installed")
        return cert, key

    return make


@pytest.fixture
def server_process() -> Iterator[Callable[..., tuple[subprocess.Popen, int]]]:
    """Starts ``server_process.py`` with its arguments; gives the process and its port."""
    script = Path(__file__).with_name("server_process.py")
    root = str(Path(__file__).parents[2])
    environment = {**os.environ, "PYTHONPATH": root, "OMP_NUM_THREADS": "1"}
    with ExitStack() as started:

        def start(*arguments: object) -> tuple[subprocess.Popen, int]:
            command = [sys.executable, str(script), *map(str, arguments)]
            process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment)
            started.enter_context(process)
            started.callback(process.kill)
            assert process.stdout is not None
            return process, int(process.stdout.readline())

        yield start
