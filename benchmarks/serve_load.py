"""Rows of ``vla bench serve`` beyond the network: many connections, asking ahead, 8-bit integers."""

import time
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import torch

from envs.specs import STATE_KEY, TASK_KEY, EmbodimentSpec, image_key
from policies.blocks import growing_blocks
from policies.data.statistics import DatasetStatistics, FieldStatistics
from policies.policy import ChunkPolicy
from policies.processors import Normalization, NormalizationMode
from policies.quantization import quantize_linears
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.control import ActionStream
from policies.serving.metrics import percentiles
from policies.vla_policy import VLAPolicy
from vla.config import VLAConfig
from vla.model import VLA

CONNECTIONS = (1, 4, 16)
LARGEST_BATCH = 16
SLOW_S = 0.12
_WARM_UP = 3


def network_policy(embodiment: EmbodimentSpec, at_once: int) -> VLAPolicy:
    """The small network of the default size with fresh weights, as it is served: speed does not depend on weights."""
    torch.manual_seed(0)
    config = VLAConfig(
        cameras=embodiment.camera_names,
        image_size_px=(64, 64),
        state_dim=embodiment.state_dim,
        action_dim=embodiment.action_dim,
        horizon=16,
    )
    spread = torch.linspace(-1.0, 1.0, 50)[:, None]
    fields = [FieldStatistics.of(spread.repeat(1, d).numpy()) for d in (embodiment.state_dim, embodiment.action_dim)]
    statistics = DatasetStatistics(episodes=1, frames=50, state=fields[0], action=fields[1])
    mode = NormalizationMode.MEAN_STD
    normalization = Normalization.from_statistics(statistics, embodiment, state=mode, action=mode)
    return VLAPolicy(VLA(config), normalization, embodiment, blocks=growing_blocks(at_once))


class SlowPolicy(ChunkPolicy):
    """Takes more than two control periods of 50 ms for a chunk of 16."""

    def __init__(self, embodiment: EmbodimentSpec) -> None:
        super().__init__(embodiment, horizon=16, replan_interval=6)

    def predict_chunk(self, observation: Mapping[str, Any]) -> torch.Tensor:
        time.sleep(SLOW_S)
        return torch.zeros(len(observation[STATE_KEY]), self.horizon, self.embodiment.action_dim)


def load_row(port: int, batching: str, connections: int, requests: int, observation: Mapping[str, Any]) -> dict:
    """So many connections that each ask ``requests`` times without a pause: latency and requests per second."""

    def talk(client: PolicyClient) -> list[float]:
        spent_ms = []
        for _ in range(requests):
            begun_s = time.perf_counter()
            client.infer(observation, timeout_s=60.0)
            spent_ms.append(1e3 * (time.perf_counter() - begun_s))
        return spent_ms

    clients = [PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) for _ in range(connections)]
    try:
        with ThreadPoolExecutor(connections) as pool:
            list(pool.map(lambda client: [client.infer(observation, timeout_s=60.0) for _ in range(_WARM_UP)], clients))
            begun_s = time.perf_counter()
            spent_ms = [value for values in pool.map(talk, clients) for value in values]
            wall_s = time.perf_counter() - begun_s
    finally:
        for client in clients:
            client.close()
    found = percentiles(spent_ms)
    return {
        "connections": connections,
        "batching": batching,
        "p50_ms": found["p50"],
        "p95_ms": found["p95"],
        "requests_per_s": len(spent_ms) / wall_s,
    }


def ahead_row(port: int, ahead: bool, steps: int, observation: Mapping[str, Any]) -> dict:
    """A control loop at its rate against the slow policy: how many steps had an action of the policy, and in time."""
    with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
        stream = ActionStream(client, watchdog_s=5.0, ahead=ahead)
        period_s, held, late = 1.0 / client.embodiment.control_rate_hz, 0, 0
        stream.step(observation, period_s)
        due_s = time.monotonic() + period_s
        for _ in range(steps):
            left_s = max(due_s - time.monotonic(), 0.0)
            held += stream.step(observation if stream.needs_observation else None, left_s).held
            now_s = time.monotonic()
            late += now_s > due_s + 0.1 * period_s
            time.sleep(max(due_s - now_s, 0.0))
            due_s = max(due_s, now_s) + period_s
    acted = 1.0 - held / steps
    return {"asking": "ahead" if ahead else "in turn", "steps": steps, "held": held, "late": late, "acted": acted}


def int8_rows(embodiment: EmbodimentSpec, requests: int) -> list[dict]:
    """Processor time of one inference alone, in float32 and with 8-bit integers, and how far the actions differ."""
    exact, rounded = (network_policy(embodiment, at_once=1) for _ in range(2))
    quantize_linears(rounded.vla)
    generator = torch.Generator().manual_seed(0)
    observation: dict[str, Any] = {TASK_KEY: ["pick up the red cube"]}
    observation[STATE_KEY] = torch.rand(1, embodiment.state_dim, generator=generator) * 2 - 1
    for camera in embodiment.cameras:
        size = (1, camera.height_px, camera.width_px, 3)
        observation[image_key(camera.name)] = torch.randint(0, 256, size, generator=generator, dtype=torch.uint8)
    difference = (exact.predict_chunk(observation) - rounded.predict_chunk(observation)).abs().max()
    cases = {"float32": exact, "int8": rounded}
    return [
        {"network": name, "cpu_ms": _cpu_ms(lambda p=policy: p.predict_chunk(observation), requests)}
        | ({"largest_difference": float(difference)} if name == "int8" else {})
        for name, policy in cases.items()
    ]


def _cpu_ms(work: Callable[[], Any], times: int) -> float:
    for _ in range(_WARM_UP):
        work()
    begun_s = time.process_time()
    for _ in range(times):
        work()
    return 1e3 * (time.process_time() - begun_s) / times
