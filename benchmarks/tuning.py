"""What a training step costs by what of the network is frozen: ``nano`` with the bridge head, two views of 64 px.

Milliseconds of processor time per optimiser step on one thread; on an idle machine that is the time on the clock. The
cases take turns. ``convolutions`` counts those that a step differentiates, ``kept MB`` is what it keeps in memory to do
so.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path

import torch
from data import CASES, SEED, make_embodiment, make_episode
from report import home_path, natural, print_table, write_json
from torch.autograd.graph import saved_tensors_hooks

from configs.commands.train import network_for
from configs.presets import nano_bridge
from configs.terminal import ending_with_the_reader
from policies.data.writer import DemonstrationWriter
from policies.imitation.config import TrainConfig
from policies.imitation.learner import ImitationLearner
from policies.imitation.stages import Stage

EYE = ("image_encoder", "keypoint_encoder", "text_encoder", "camera_embedding", "waypoint")
STAGES: Mapping[str, Stage] = {
    "everything learns": Stage(),
    "image encoder frozen": Stage(rates={"backbone.image_encoder": 0.0}),
    "whole eye frozen": Stage(rates={f"backbone.{part}": 0.0 for part in EYE}),
    "head alone learns": Stage(learns=("head",)),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--steps", type=natural, default=10, help="measured steps per case, after one to warm up")
    parser.add_argument("--batch-size", type=natural, default=64, help="windows per step")
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        store = record(Path(folder) / "store")
        learners = {name: learner_of(store, stage, options.batch_size) for name, stage in STAGES.items()}
        costs = {name: (kept_bytes(learner), convolutions(learner)) for name, learner in learners.items()}
        taken_s: dict[str, list[float]] = {name: [] for name in learners}
        for step in range(2, options.steps + 2):
            for name, learner in learners.items():
                taken_s[name].append(processor_s(learner, step))
    rows = [
        {
            "learns": name,
            "ms/step": round(1e3 * statistics.median(taken_s[name]), 1),
            "kept MB": round(kept / 1e6, 1),
            "convolutions": differentiated,
        }
        for name, (kept, differentiated) in costs.items()
    ]
    print_table(rows)
    if options.json:
        write_json(options.json, "tuning", {"batch_size": options.batch_size, "rows": rows}, seeds=[SEED])


def record(path: Path) -> Path:
    """A few drawn episodes; what is in them costs nothing."""
    embodiment = make_embodiment(CASES[0])
    with DemonstrationWriter.create(path, embodiment) as writer:
        for index in range(8):
            writer.append(make_episode(CASES[0], embodiment, index))
    return path


def learner_of(store: Path, stage: Stage, batch_size: int) -> ImitationLearner:
    """A fresh ``nano-bridge`` in a run of this one stage."""
    network = network_for(
        nano_bridge(), make_embodiment(CASES[0]), tasks=("pick",), instructions=("pick up the red disc",)
    )
    return ImitationLearner(TrainConfig(stages=(stage,), batch_size=batch_size), network, [store])


def processor_s(learner: ImitationLearner, step: int) -> float:
    began = time.process_time()
    learner.step(step)
    return time.process_time() - began


def kept_bytes(learner: ImitationLearner) -> int:
    """Size of the tensors that a step keeps for its backward pass, each counted once."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.data_ptr()] = tensor.numel() * tensor.element_size()
        return tensor

    with saved_tensors_hooks(keep, lambda tensor: tensor):
        learner.step(0)
    return sum(kept.values())


def convolutions(learner: ImitationLearner) -> int:
    """How many convolutions a step differentiates."""
    with torch.profiler.profile() as profile:
        learner.step(1)
    return sum(event.name == "aten::convolution_backward" for event in profile.events() or ())


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
