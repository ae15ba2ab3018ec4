"""Answer observations with actions over a WebSocket, in the protocol of the openpi client.

The port opens when the policy is warm; --port 0 takes any free one. An address that other machines can reach needs a
token, from --token-file or else from the environment variable VLA_SERVE_TOKEN, which clients must then present.
Without TLS (--tls-cert, --tls-key) the token and all observations cross the network in clear text. Names that end in -s
are seconds.
"""

import asyncio
import logging
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from configs.machine import check_int8, check_threads
from policies.serving.config import ServeConfig


@dataclass(frozen=True, kw_only=True)
class Config:
    """Which checkpoint to serve, and how."""

    checkpoint: Annotated[Path, tyro.conf.Positional]
    """A training run's folder, or one checkpoint in it."""
    device: str = "cpu"
    """Where the network runs, such as cpu or cuda."""
    threads: int = 0
    """Threads for the network on the CPU; 0 leaves torch's choice."""
    int8: bool = False
    """Let the network's linear layers compute with 8-bit integers, on the CPU alone: faster for large networks, and a
    little off. Each request then goes through alone."""
    answer: bool = True
    """Let a policy with a chat head say what it does, in its replies; without, it answers sooner."""
    server: Annotated[ServeConfig, tyro.conf.arg(name="")] = field(default_factory=ServeConfig)

    def __post_init__(self) -> None:
        check_threads(self.threads, self.device)
        check_int8(self.int8, self.device)
        if self.int8 and self.server.batch_wait_ms:
            raise ValueError("int8 answers each request alone: batch_wait_ms is void")


def run(config: Config) -> int:
    """Serve until interrupted; everything that can be refused is refused before the model is loaded."""
    from configs.acting import load_policy
    from policies.serving.server import PolicyServer

    config.server.check()
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(levelname)s %(message)s", datefmt="%H:%M:%S")
    policy = load_policy(
        config.checkpoint,
        device=config.device,
        threads=config.threads,
        at_once=config.server.max_batch,
        int8=config.int8,
        answer=config.answer,
    )
    try:
        asyncio.run(PolicyServer(policy, config.server).serve_until_told())
    except KeyboardInterrupt:
        logging.info("stopped")
    return 0
