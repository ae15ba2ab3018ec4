"""Whatever a task may say, in whatever words, the network that training makes for it reads to the end."""

from collections import defaultdict
from dataclasses import replace

import pytest
import torch

from configs.commands.train import network_for
from configs.presets import debug
from configs.wording import long_sentences, sentences
from envs.perturbations.spec import Rewrite
from envs.perturbations.wording import rewrite
from envs.random import EpisodeRandom
from envs.specs import CameraSpec, Dimension, EmbodimentSpec
from envs.suites import SUITES, find_task
from envs.tasks import TASKS
from policies.network_input import InstructionTokens
from vla.backbones.nano import NanoConfig

ROBOT = EmbodimentSpec(
    name="arm",
    control_rate_hz=10.0,
    state=(Dimension(name="x", unit="m", low=-1.0, high=1.0),),
    action=(Dimension(name="dx", unit="m", low=-1.0, high=1.0),),
    cameras=(CameraSpec(name="front", height_px=32, width_px=32),),
)


def said(name, seeds):
    """Sentences of ``name`` in both splits, as they are and in every level of rewriting."""
    task = find_task(name)
    layout = task.sample(EpisodeRandom(seeds))
    plain = [text for split in ("train", "held_out") for text in task.instructions(layout, split)]
    draws = torch.rand(len(plain), 4, generator=torch.Generator().manual_seed(0)).tolist()
    rewritten = [
        rewrite(text, Rewrite(level=1 + i % 5), tuple(draw))
        for i, (text, draw) in enumerate(zip(plain, draws, strict=True))
    ]
    return dict.fromkeys(plain + rewritten)


@pytest.mark.parametrize("group", ["tasks", *SUITES])
def test_no_sentence_is_cut_and_no_two_become_one(group):
    names = [*TASKS] if group == "tasks" else SUITES[group].task_names
    for name in names:
        network = network_for(debug(), ROBOT, tasks=(name,), instructions=sentences(name, ("train",))[:5])
        backbone = network.build().backbone
        texts = list(said(name, torch.arange(5000, 5040)))
        backbone.check_texts(texts)
        ids, _ = InstructionTokens(backbone)(texts, "cpu")
        assert ids.shape == (len(texts), backbone.text_window)
        meant = defaultdict(set)
        for text, row in zip(texts, ids.tolist(), strict=True):
            meant[tuple(row)].add(text)
        assert [several for several in meant.values() if len(several) > 1] == []


def test_the_quickstarts_window_holds_all_that_is_said():
    window = NanoConfig().reading(long_sentences(("reach", "pick", "place"))).max_text_tokens
    assert 32 < window < 80


def test_a_window_that_is_given_is_kept_and_refused_where_the_data_say_more():
    small = replace(debug(), backbone=replace(debug().backbone, max_text_tokens=12))
    network = network_for(small, ROBOT, tasks=("place",), instructions=["lift the red cube"])
    assert network.backbone.max_text_tokens == 12
    long = "put the red cube into the white bin and close the drawer"
    with pytest.raises(ValueError, match=rf"at most 12 tokens .* got \d+ tokens: '{long}'"):
        network_for(small, ROBOT, tasks=("place",), instructions=["lift the red cube", long])


def test_tasks_from_elsewhere_are_read_from_the_data_alone():
    assert long_sentences(("fold the towel",)) == []
    words = "fold the towel twice, then lay it on the shelf, " * 20
    network = network_for(debug(), ROBOT, tasks=("fold",), instructions=[words])
    assert network.backbone.max_text_tokens > 300
