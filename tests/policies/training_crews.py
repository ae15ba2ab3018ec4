"""Trainings of the tests that several processes take part in."""

import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from crews import FOREVER_S, leave_pid
from demonstrations import tiny_network, tiny_training
from discs import DiscScenes, tiny_backbone

from configs.presets import debug
from envs.specs import Told
from policies.imitation.learner import ImitationLearner
from policies.imitation.trainer import train
from policies.pretraining.learner import PretrainLearner
from policies.training.group import Group
from policies.training.processes import in_processes
from policies.training.sharding import own_part, put_together


def debug_network():
    """The preset's, for the point mass."""
    preset = debug()
    backbone = replace(preset.backbone, patch_px=8, max_text_tokens=10)
    return replace(tiny_network(), backbone=backbone, head=preset.head)


def learn(store, config, steps, network=None):
    """Weights after these steps; gradients (0 for none) and report of each of them."""
    torch.set_num_threads(1)
    return taken(ImitationLearner(config, network or debug_network(), [store]), steps)


class HalfTold(DiscScenes):
    """To train on, the second half of every eight tables is not told about."""

    def batch(self, request, then=None):
        scenes = super().batch(request, then)
        if request.split == "held_out" or request.tables > 8:
            return scenes
        told = scenes.told.table + request.first_seed % 8 < 4
        kept = [i for i, here in enumerate(told.tolist()) if here]
        sentences, false = (tuple(texts[i] for i in kept) for texts in (scenes.told.sentences, scenes.told.false))
        return replace(scenes, told=Told(table=scenes.told.table[told], sentences=sentences, false=false))


def look(config, steps, scenes=DiscScenes):
    """The same of a pre-training, with the last evaluation."""
    torch.set_num_threads(1)
    learner = PretrainLearner(config, tiny_backbone(), scenes())
    return *taken(learner, steps), learner.held_out


def taken(learner, steps):
    gradients, reports = [], []
    for step in steps:
        reports.append(learner.step(step))
        gradients.append(flat(torch.zeros_like(p) if p.grad is None else p.grad for p in learner.parameters.values()))
    return flat(learner.parameters.values()), np.stack(gradients), reports


def flat(tensors):
    return torch.cat([tensor.detach().reshape(-1) for tensor in tensors]).numpy()


def run(run_dir, store, resume=False, **fields):
    """A tiny run in two processes."""
    config = tiny_training(**{"processes": 2, "threads": 1, **fields})
    return in_processes(config.processes, "cpu", run_here, run_dir, config, store, resume)


def run_here(run_dir, config, store, resume):
    return train(run_dir, config, tiny_network(), [store], resume=resume, show_progress=False)


def train_until_killed(folder, store):
    """Comes to step 8 of a run in ``folder``, says so, and goes no further."""
    config = tiny_training(processes=2, threads=1)
    stopping(Path(folder) / "run", config, Path(store), stops_at=8)


def stopping(run_dir, config, store, stops_at):
    take_step = ImitationLearner.step

    def step(self, at):
        if at == stops_at:
            leave_pid(run_dir.parent)
            time.sleep(FOREVER_S)
        return take_step(self, at)

    ImitationLearner.step = step
    run_here(run_dir, config, store, resume=False)


def disagree(about, run_dir, store):
    """Rank 1 has other settings, or begins with other weights."""
    other = Group.here().rank == 1
    config = tiny_training(processes=2, threads=1, **({"lr": 0.5} if other and about == "lr" else {}))
    start = ImitationLearner._start

    def start_at_one(self, *given):
        next(self.vla.parameters()).data.fill_(1.0)
        return start(self, *given)

    if other and about == "weights":
        ImitationLearner._start = start_at_one
    run_here(run_dir, config, store, resume=False)


def learn_shared_out(store, config, steps, network):
    """Weights after these steps, put together; the largest share of the network that a process holds; reports."""
    torch.set_num_threads(1)
    learner = ImitationLearner(config, network, [store])
    weights = list(learner.vla.parameters())
    held = sum(own_part(weight).numel() for weight in weights) / sum(weight.numel() for weight in weights)
    reports = [learner.step(step) for step in steps]
    whole = flat(put_together(weight) for weight in learner.parameters.values())
    return whole, Group.here().largest(round(100 * held)), reports
