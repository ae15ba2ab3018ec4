"""What the network costs between a robot and its policy: round trip minus inference, over loopback.

    vla bench serve [--json PATH] [--requests 2000] [--blocking-s 60] [--load-requests 200] [--ahead-steps 400]

The server runs in a process of its own and answers two 224 x 224 images and an 8-D state with a chunk of 10 x 7
actions, from a policy that costs next to nothing. Beside our server, the unmodified openpi-client talks to a plain
server of the same protocol that runs inference on its event loop. Then one inference blocks for a minute, on both.

With the small network in the place of that policy: 1, 4 and 16 connections that ask without a pause, answered together
or each alone; and the processor time of one inference in float32 and with 8-bit integers. With a policy that takes
120 ms: a control loop of 20 Hz that asks in turn, or ahead.
"""

import argparse
import asyncio
import logging
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from functools import partial
from typing import Any

import numpy as np
import torch
from openpi_client import msgpack_numpy
from openpi_client.websocket_client_policy import WebsocketClientPolicy
from report import home_path, print_table, write_json
from serve_load import (
    CONNECTIONS,
    LARGEST_BATCH,
    SlowPolicy,
    ahead_row,
    int8_rows,
    load_row,
    network_policy,
)
from websockets.asyncio.server import ServerConnection, serve
from websockets.exceptions import ConnectionClosed

from configs.terminal import ending_with_the_reader
from envs.specs import STATE_KEY, TASK_KEY, CameraSpec, Dimension, EmbodimentSpec, image_key
from policies.policy import ChunkPolicy
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.codec import encode
from policies.serving.config import ServeConfig
from policies.serving.metrics import percentiles
from policies.serving.server import PolicyServer

SEED = 0
WARM_UP = 50
BLOCK = "block "
CAMERAS = ("base", "wrist")
EMBODIMENT = EmbodimentSpec(
    name="bench",
    control_rate_hz=20.0,
    state=tuple(Dimension(name=f"s{i}", unit="1", low=-1.0, high=1.0) for i in range(8)),
    action=tuple(Dimension(name=f"a{i}", unit="1", low=-1.0, high=1.0) for i in range(7)),
    cameras=tuple(CameraSpec(name=name, height_px=224, width_px=224) for name in CAMERAS),
)

Infer = Callable[[dict[str, Any]], Mapping[str, Any]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    parser.add_argument("--requests", type=int, default=2000, help="timed requests per row")
    parser.add_argument(
        "--blocking-s", type=float, default=60.0, help="how long the blocking inference takes; 0 skips it"
    )
    parser.add_argument("--load-requests", type=int, default=200, help="requests per connection; 0 skips the load")
    parser.add_argument("--ahead-steps", type=int, default=400, help="control steps per row; 0 skips asking ahead")
    parser.add_argument("--role", choices=tuple(SERVERS), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.role:
        asyncio.run(SERVERS[arguments.role]())
        return
    logging.getLogger("websockets").setLevel(logging.CRITICAL)  # the table tells which connection is lost
    with server_process("ours") as ours, server_process("plain") as plain:
        cases = {
            ("our client", "our server"): our_client(ours),
            ("openpi-client", "our server"): openpi_client(ours),
            ("openpi-client", "plain server"): openpi_client(plain),
        }
        rows = overheads(cases, arguments.requests)
        print_table(rows)
        ratio = rows[0]["p50_ms"] / rows[2]["p50_ms"]
        print(f"\np50 with us over p50 with openpi-client and the plain server: {ratio:.2f}\n")
        figures: dict[str, Any] = {"overhead": rows}
        if arguments.blocking_s > 0:
            with ThreadPoolExecutor(2) as pool:
                ports = {"our server": ours, "plain server": plain}
                figures["blocking"] = list(pool.map(partial(blocking, arguments.blocking_s), ports, ports.values()))
            print_table(figures["blocking"])
    if arguments.load_requests > 0:
        figures["load"], figures["int8"] = load(arguments.load_requests)
    if arguments.ahead_steps > 0:
        figures["ahead"] = asking_ahead(arguments.ahead_steps)
    if arguments.json:
        write_json(arguments.json, "serve", figures, seeds=[SEED])


def overheads(cases: Mapping[tuple[str, str], Infer], requests: int) -> list[dict[str, Any]]:
    """Percentiles of round trip minus the policy's own time, ms; the cases take turns, so that load hits all alike."""
    observation = make_observation()
    spent_ms: dict[tuple[str, str], list[float]] = {case: [] for case in cases}
    for _ in range(WARM_UP + requests):
        for case, infer in cases.items():
            begun_s = time.perf_counter()
            reply = infer(observation)
            spent_ms[case].append(1e3 * (time.perf_counter() - begun_s) - reply["policy_timing"]["infer_ms"])
            if reply["actions"].shape != (10, 7):
                raise RuntimeError(f"expected actions of shape (10, 7), got {reply['actions'].shape}")
    rows = []
    for (client, server), values in spent_ms.items():
        found = {f"{name}_ms": value for name, value in percentiles(values[WARM_UP:]).items()}
        rows.append({"client": client, "server": server, **found, "requests": requests})
    return rows


def blocking(block_s: float, server: str, port: int) -> dict[str, Any]:
    """Whether a stock openpi-client lives through one inference of ``block_s``, and gets the next answer too."""
    client = WebsocketClientPolicy("127.0.0.1", port)
    begun_s = time.perf_counter()
    try:
        client.infer({**make_observation(), "prompt": f"{BLOCK}{block_s}"})
        blocked_s = time.perf_counter() - begun_s
        client.infer(make_observation())
        outcome = "answered, connection kept"
    except ConnectionClosed as closed:
        blocked_s = time.perf_counter() - begun_s
        outcome = f"connection lost: {closed}"
    return {"server": server, "inference_s": block_s, "waited_s": blocked_s, "outcome": outcome}


def load(requests: int) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Rows of many connections, with and without batches, and of the network with 8-bit integers."""
    observation = make_observation()
    with server_process("together") as together, server_process("alone") as alone:
        ports = {"together": together, "each alone": alone}
        rows = [load_row(ports[way], way, n, requests, observation) for n in CONNECTIONS for way in ports]
    print_table(rows)
    torch.set_num_threads(1)
    integers = int8_rows(EMBODIMENT, requests)
    print_table(integers)
    return rows, integers


def asking_ahead(steps: int) -> list[dict[str, Any]]:
    """Rows of a control loop that asks in turn and one that asks ahead."""
    with server_process("slow") as port:
        rows = [ahead_row(port, ahead, steps, make_observation()) for ahead in (False, True)]
    print_table(rows)
    return rows


def our_client(port: int) -> Infer:
    return PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"), expected=EMBODIMENT).infer


def openpi_client(port: int) -> Infer:
    return WebsocketClientPolicy("127.0.0.1", port).infer


def make_observation() -> dict[str, Any]:
    """Noise images and state, with the wire's keys."""
    rng = np.random.default_rng(SEED)
    images = {f"observation/images/{name}": rng.integers(0, 256, (224, 224, 3), np.uint8) for name in CAMERAS}
    return {"prompt": "pick up the red cube", "observation/state": rng.uniform(-1, 1, 8).astype(np.float32), **images}


class CheapPolicy(ChunkPolicy):
    """A linear policy; the instruction ``block S`` makes it sleep S seconds first."""

    def __init__(self) -> None:
        super().__init__(EMBODIMENT, horizon=10, replan_interval=5)
        self.weight = torch.zeros(8, 70)

    def predict_chunk(self, observation: Mapping[str, Any]) -> torch.Tensor:
        (task,) = observation[TASK_KEY]
        if task.startswith(BLOCK):
            time.sleep(float(task.removeprefix(BLOCK)))
        return (observation[STATE_KEY] @ self.weight).reshape(-1, 10, 7)


# ---- the servers, each in its own process


@contextmanager
def server_process(role: str) -> Iterator[int]:
    """Start this file as a server and yield its port."""
    command = [sys.executable, __file__, "--role", role]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    try:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"the server process ({role}) ended with {process.wait()}")
        yield int(line)
    finally:
        process.kill()
        process.wait()


async def serve_ours(
    make_policy: Callable[[], ChunkPolicy] = CheapPolicy, max_batch: int = ServeConfig.max_batch
) -> None:
    torch.set_num_threads(1)
    server = PolicyServer(
        make_policy(), ServeConfig(port=0, inference_timeout_s=3600.0, max_connections=32, max_batch=max_batch)
    )
    started = asyncio.Event()
    serving = asyncio.create_task(server.serve_forever(started))
    await started.wait()
    print(server.port, flush=True)
    await serving


async def serve_plain() -> None:
    """A plain server of the protocol: no checks, no limits, inference on the event loop."""
    torch.set_num_threads(1)
    logging.getLogger("websockets").setLevel(logging.CRITICAL)
    policy = CheapPolicy()

    async def handler(connection: ServerConnection) -> None:
        await connection.send(encode({}))
        try:
            async for frame in connection:
                await connection.send(answer(policy, frame))
        except ConnectionClosed:
            return

    async with serve(handler, "127.0.0.1", 0, compression=None, max_size=None) as server:
        print(next(iter(server.sockets)).getsockname()[1], flush=True)
        await server.serve_forever()


def answer(policy: CheapPolicy, frame: str | bytes) -> bytes:
    received_s = time.perf_counter()
    message = msgpack_numpy.unpackb(frame)
    batch = {image_key(name): torch.from_numpy(message[f"observation/images/{name}"].copy())[None] for name in CAMERAS}
    batch[STATE_KEY] = torch.from_numpy(message["observation/state"].copy())[None]
    begun_s = time.perf_counter()
    with torch.inference_mode():
        actions = policy.predict_chunk({**batch, TASK_KEY: [message["prompt"]]})[0].numpy()
    done_s = time.perf_counter()
    timing = {"server_timing": {"infer_ms": 1e3 * (done_s - received_s)}}
    return encode({"actions": actions, **timing, "policy_timing": {"infer_ms": 1e3 * (done_s - begun_s)}})


SERVERS = {
    "ours": serve_ours,
    "plain": serve_plain,
    "together": partial(serve_ours, partial(network_policy, EMBODIMENT, LARGEST_BATCH), LARGEST_BATCH),
    "alone": partial(serve_ours, partial(network_policy, EMBODIMENT, 1), 1),
    "slow": partial(serve_ours, partial(SlowPolicy, EMBODIMENT)),
}


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
