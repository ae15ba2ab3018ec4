"""What a policy costs to act: milliseconds for a chunk, chunks and actions per second, memory, by backbone and head.

    vla bench model [--backbones nano smolvlm-256m] [--heads bridge flow] [--batch 1 32] [--int8] [--compile]
                    [--cuda-graph] [--dtype bfloat16] [--device cuda] [--set merged_tokens=16] [--json PATH]

Backbones have the sizes of the published models and RANDOM WEIGHTS, which need no download and cost what learned ones
do (but FAST decodes until its end token comes, which random weights say at random). Two cameras with pictures of the
size that the backbone learned with, one sentence, a state of 17 numbers, chunks of 16 actions of 7. A row is
``VLA.act`` in a process of its own. ``replans_hz`` is how often each of the robots in the batch can have a new chunk,
one inference after the other; ``cpu_ms`` is the processor's time, which is that on the clock where nothing else runs.

``plain`` is the same network with the same weights, written for this one case with transformers and PyTorch alone, in
the same process and in turn; ``plain_over_ours`` above 1 means that ours is faster, ``differs`` is the largest
difference of their actions. Rates and this comparison are by the clock, or with --by-processor by the processor's time.
"""

import argparse
import json
import os
import re
import resource
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from model_peers import Act, plain_peer
from model_shapes import BACKBONES, HEADS, LARGE_HEADS, NANO, SENTENCE, backbone_config, image_side_px, parameters_of
from report import home_path, machine, natural, print_table, write_json

from configs.machine import check_device, check_int8
from configs.terminal import ending_with_the_reader
from policies.cuda_graph import GraphedAct, check_cuda_graph
from policies.quantization import quantize_linears
from policies.serving.metrics import percentiles
from vla.config import VLAConfig
from vla.model import VLA
from vla.observation import ActionChunk, Observation
from vla.strict_json import strict_json

SEED = 0
STATE_DIM, ACTION_DIM, HORIZON = 17, 7, 16
CAMERAS = ("front", "wrist")
FLOAT, ACTIVATIONS = 4, 1.3
"""Bytes of a weight, and what acting takes in all for each byte of weights, at about batch 1."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--backbones", nargs="+", choices=BACKBONES, default=[NANO])
    parser.add_argument("--heads", nargs="+", choices=tuple(HEADS), default=list(HEADS))
    parser.add_argument("--batch", type=natural, nargs="+", default=[1, 32], help="robots at once")
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--dtype", choices=("float32", "bfloat16"), default="float32", help="of autocast")
    parser.add_argument("--int8", action="store_true", help="linear layers with 8-bit integers, on the CPU")
    parser.add_argument("--compile", action="store_true", help="through torch.compile")
    parser.add_argument("--cuda-graph", action="store_true", help="recorded once as a CUDA graph")
    parser.add_argument(
        "--set", nargs="+", default=[], metavar="FIELD=NUMBER", help="whole numbers of the backbone's config"
    )
    parser.add_argument("--threads", type=natural, default=1, help="on the CPU")
    parser.add_argument("--seconds", type=float, default=4.0, help="how long a row is timed, at least")
    parser.add_argument("--by-processor", action="store_true", help="rates and ratios by processor time")
    parser.add_argument("--no-peers", action="store_true", help="leave the plain networks out")
    parser.add_argument("--json", type=home_path, help="also write the figures here")
    parser.add_argument("--row", type=json.loads, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.row:
        print(strict_json(measure(**options.row)))
        return
    try:
        rows = planned(options)
    except ValueError as error:
        parser.error(str(error))
    load = os.getloadavg()[0]
    done = []
    for row in rows:
        done.append(in_a_process(row))
        print_table(done[-1:])
    print(f"\n{machine()}\nload average before: {load:.1f}, now: {os.getloadavg()[0]:.1f}; random weights\n")
    print_table(done)
    if options.json:
        figures = {"weights": "random", "load_average": load, "nice": os.nice(0), "rows": done}
        write_json(options.json, "model", figures, seeds=[SEED])


def planned(options: argparse.Namespace) -> list[dict[str, Any]]:
    """What each row measures; ``ValueError`` for what cannot be."""
    check_device(options.device)
    check_int8(options.int8, options.device)
    if options.cuda_graph:
        check_cuda_graph(options.device)
    if options.cuda_graph and options.compile:
        raise ValueError("expected --compile or --cuda-graph, got both")
    if options.int8 and (options.compile or options.dtype != "float32"):
        raise ValueError("--int8 goes alone: torch neither compiles nor autocasts layers of 8-bit integers")
    settings = whole_numbers(options.set)
    for name in options.backbones:
        known = {field.name for field in fields(backbone_config(name))}
        if unknown := sorted(settings.keys() - known):
            raise ValueError(f"--set: {name} has no field {unknown}; its fields are {sorted(known)}")
        backbone_config(name, **settings)
        check_memory(name, options.device)
    kept = ("device", "dtype", "int8", "compile", "cuda_graph", "threads", "seconds", "by_processor")
    common = {key: vars(options)[key] for key in kept} | {"settings": settings, "peer": not options.no_peers}
    return [
        {"backbone": backbone, "head": head, "batch": batch, **common}
        for backbone in options.backbones
        for head in options.heads
        for batch in options.batch
    ]


def whole_numbers(settings: list[str]) -> dict[str, int]:
    """``ValueError`` for what is no ``name=number``."""
    found = {}
    for setting in settings:
        name, _, value = setting.partition("=")
        if not name.isidentifier() or not value.isdecimal():
            raise ValueError(f"--set: expected FIELD=NUMBER, got {setting!r}")
        found[name] = int(value)
    return found


def check_memory(backbone: str, device: str) -> None:
    """``ValueError`` where a backbone in float32 does not fit in what memory is free."""
    needed = ACTIVATIONS * FLOAT * parameters_of(backbone)
    on_gpu = torch.device(device).type == "cuda"
    free = torch.cuda.mem_get_info(device)[0] if on_gpu else free_bytes()
    if needed > free:
        raise ValueError(
            f"{backbone} needs about {needed / 2**30:.1f} GiB on {device}, of which {free / 2**30:.1f} GiB are free"
        )


def free_bytes() -> float:
    """Memory that a process may still take, with what caches hold of it, where the system tells."""
    known = Path("/proc/meminfo")
    found = re.search(r"^MemAvailable: +(\d+) kB", known.read_text(encoding="utf-8"), re.M) if known.is_file() else None
    return 1024.0 * int(found[1]) if found else float("inf")


def in_a_process(row: Mapping[str, Any]) -> dict[str, Any]:
    """Measure ``row`` in a fresh interpreter; a row that fails says why and the rest goes on."""
    done = subprocess.run(
        [sys.executable, __file__, "--row", strict_json(dict(row))], capture_output=True, text=True, check=False
    )
    shown: dict[str, Any] = {key: row[key] for key in ("backbone", "head", "batch")}
    if done.returncode:
        return {**shown, "failed": (done.stderr.strip().splitlines() or [f"exit status {done.returncode}"])[-1][:100]}
    return {**shown, **json.loads(done.stdout.strip().splitlines()[-1])}


def measure(
    backbone: str,
    head: str,
    batch: int,
    device: str,
    dtype: str,
    int8: bool,
    compile: bool,
    cuda_graph: bool,
    threads: int,
    seconds: float,
    by_processor: bool,
    settings: Mapping[str, Any],
    peer: bool,
) -> dict[str, Any]:
    """The figures of one row."""
    torch.set_num_threads(threads)
    vla = network(backbone, head, settings).to(device)
    observation = observe(vla, batch, device)
    parameters = sum(p.numel() for p in vla.parameters())
    if int8:
        quantize_linears(vla)
    act: Act = torch.compile(vla.act) if compile else vla.act  # pyright: ignore[reportAssignmentType]
    with mixed(device, dtype, recorded=cuda_graph):
        act = GraphedAct(act, observation) if cuda_graph else act
        actions = act(observation)
        memory_gib = peak_bytes(device) / 2**30
        cases = {"ours": act}
        plain = None
        if peer and not settings:  # rounding has changed the network in place: the same one once more
            plain = plain_peer(network(backbone, head, settings).to(device) if int8 else vla)
        differs = None
        if plain is not None:
            cases["plain"] = plain
            differs = float((plain(observation) - actions).abs().max())
        wall_ms, cpu_ms = timed({name: lambda f=f: f(observation) for name, f in cases.items()}, seconds, device)
    counted = {name: statistics.median(x) for name, x in (cpu_ms if by_processor else wall_ms).items()}
    median_s = counted["ours"] / 1e3
    figures = {
        "ms": statistics.median(wall_ms["ours"]),
        "p95_ms": percentiles(wall_ms["ours"])["p95"],
        "cpu_ms": statistics.median(cpu_ms["ours"]),
        "chunks_per_s": batch / median_s,
        "actions_per_s": batch * HORIZON / median_s,
        "replans_hz": 1 / median_s,
        "memory_gib": memory_gib,
        "parameters_m": parameters / 1e6,
        "calls": len(wall_ms["ours"]),
    }
    if plain is not None:
        theirs = counted["plain"]
        figures |= {"plain_ms": theirs, "plain_over_ours": theirs / counted["ours"], "differs": differs}
    return figures


def mixed(device: str, dtype: str, *, recorded: bool) -> AbstractContextManager[Any]:
    """Autocast, without its cache where a graph is recorded: what it keeps would be gone when the graph runs."""
    if dtype == "float32":
        return nullcontext()
    return torch.autocast(torch.device(device).type, torch.bfloat16, cache_enabled=not recorded)


def network(backbone: str, head: str, settings: Mapping[str, Any]) -> VLA:
    """A network, always the same one; its head's vocabulary, if it has one, is fitted to wandering chunks."""
    torch.manual_seed(SEED)
    side = image_side_px(backbone)
    config = VLAConfig(
        backbone=backbone_config(backbone, **settings),
        head=(HEADS if backbone == NANO else LARGE_HEADS)[head],
        cameras=CAMERAS,
        image_size_px=(side, side),
        state_dim=STATE_DIM,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
        waypoint_dims=(0, 1, 2) if backbone == NANO else (),
    )
    vla = VLA(config).eval()
    wandering = (0.2 * torch.randn(64, HORIZON, ACTION_DIM)).cumsum(dim=1).tanh()
    vla.head.fit(ActionChunk(actions=wandering, valid=torch.ones(64, HORIZON, dtype=torch.bool)))
    return vla


def observe(vla: VLA, batch: int, device: str) -> Observation:
    """Pictures of noise, in whole bytes, a sentence and a state."""
    text, text_mask = vla.backbone.tokenize([SENTENCE] * batch)
    views, (height, width) = len(CAMERAS), vla.config.image_size_px
    levels = torch.randint(0, 256, (batch, 1, views, 3, height, width), dtype=torch.uint8)
    return Observation(
        images=levels.to(device).float() / 255,
        view_mask=torch.ones(batch, 1, views, dtype=torch.bool, device=device),
        text=text.to(device),
        text_mask=text_mask.to(device),
        state=torch.randn(batch, STATE_DIM).to(device),
    )


def timed(
    cases: Mapping[str, Callable[[], Any]], seconds: float, device: str
) -> tuple[dict[str, list[float]], dict[str, list[float]]]:
    """Milliseconds of every call by the clock and of the processor; the cases take turns, as load should."""
    wall_ms: dict[str, list[float]] = {name: [] for name in cases}
    cpu_ms: dict[str, list[float]] = {name: [] for name in cases}
    for work in cases.values():
        work()
    begun_s, least = time.perf_counter(), 5
    while time.perf_counter() - begun_s < seconds or min(map(len, wall_ms.values())) < least:
        for name, work in cases.items():
            finish(device)
            start_s, start_cpu_s = time.perf_counter(), time.process_time()
            work()
            finish(device)
            wall_ms[name].append(1e3 * (time.perf_counter() - start_s))
            cpu_ms[name].append(1e3 * (time.process_time() - start_cpu_s))
    return wall_ms, cpu_ms


def finish(device: str) -> None:
    """Wait for the GPU, if that is where it runs."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize(device)


def peak_bytes(device: str) -> float:
    """The most memory that was taken so far: of the process, or of the GPU by its tensors."""
    if torch.device(device).type == "cuda":
        return float(torch.cuda.max_memory_allocated(device))
    kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(kib * 1024 if sys.platform != "darwin" else kib)


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
