"""Small real parts: a frozen backbone for the point mass, towers with weights of transformers, and scores to try."""

import json
from dataclasses import replace
from pathlib import Path

import torch
from point_mass import COLOURS, PointMassEnv, point_mass_embodiment
from tiny_checkpoints import MEAN, STD, TEXT, VISION, tiny_tokenizer
from tokenizers import processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

from envs.specs import STATE_KEY, image_key
from vla.backbones.nano import NanoConfig
from vla.base import BaseConfig, save_base
from vla.scaling import StateScale

TOWER_SIDE_PX = 56
NUMBERS = {
    "clip": {
        "image_processor_type": "CLIPImageProcessor",
        "size": {"shortest_edge": TOWER_SIDE_PX},
        "crop_size": {"height": TOWER_SIDE_PX, "width": TOWER_SIDE_PX},
        "do_center_crop": True,
    },
    "siglip": {
        "image_processor_type": "SiglipImageProcessor",
        "size": {"height": TOWER_SIDE_PX, "width": TOWER_SIDE_PX},
    },
}


def steered(num_envs, stream="demonstrate"):
    """The point mass, whose actions say that they are changes, so that 0 means to stay."""
    env = PointMassEnv(num_envs, stream=stream)
    action = tuple(replace(dimension, relative=True) for dimension in env.embodiment.action)
    env.embodiment = replace(env.embodiment, action=action)
    return env


def point_mass_base(folder: Path) -> Path:
    """A backbone of random weights, all of them saved, for the point mass; returns the folder."""
    torch.manual_seed(3)
    robot = point_mass_embodiment()
    backbone = NanoConfig(
        weights="fresh",
        width=32,
        depth=2,
        heads=2,
        n_queries=1,
        channels=16,
        blocks=1,
        wide=16,
        keypoints=4,
        keypoints_per_token=2,
        second_keypoints=2,
        patch_px=8,
    )
    config = BaseConfig(
        backbone=backbone,
        vocabulary="",
        cameras=robot.camera_names,
        image_size_px=(16, 16),
        state_names=tuple(dimension.name for dimension in robot.state),
        state=StateScale(offset=(0.0, 0.0), scale=(0.5, 0.5)),
        waypoint_dims=(0, 1),
    )
    network = config.build()
    config = BaseConfig(**{**vars(config), "vocabulary": network.vocabulary})
    save_base(config, {name: weight.detach() for name, weight in network.named_parameters()}, folder)
    return folder


def tiny_towers(folder: Path, family: str) -> Path:
    """A checkpoint of CLIP or SigLIP as transformers writes it, with tokenizer and image processor."""
    torch.manual_seed(5)
    text = {key: TEXT[key] for key in ("vocab_size", "hidden_size", "intermediate_size", "num_attention_heads")}
    text |= {
        "num_hidden_layers": 2,
        "max_position_embeddings": 24,
        "pad_token_id": 0,
        "bos_token_id": 1,
        "eos_token_id": 7,
    }
    own = {"projection_dim": 32} if family == "clip" else {}
    if family == "siglip":
        text["projection_size"] = VISION["hidden_size"]
    config = AutoConfig.for_model(family, text_config=text, vision_config=dict(VISION), **own)
    AutoModel.from_config(config).save_pretrained(folder)
    tokenizer = tiny_tokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A <|vision_end|>", special_tokens=[("<|vision_end|>", 7)]
    )
    names = {"pad_token": "<pad>", "eos_token": "<|vision_end|>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names).save_pretrained(folder)
    numbers = {"image_mean": MEAN, "image_std": STD, "rescale_factor": 1 / 255, "resample": 3, **NUMBERS[family]}
    (folder / "preprocessor_config.json").write_text(json.dumps(numbers), encoding="utf-8")
    return folder


class Nearness:
    """Minus the distance of the point mass from the dot that its goal names, read off the simulator's own dots."""

    name = "nearness"

    def __init__(self, env):
        self._env = env

    def __call__(self, observation, goals):
        named = torch.tensor([next(i for i, colour in enumerate(COLOURS) if colour in goal) for goal in goals])
        target = self._env.dots[torch.arange(len(named)), named]
        return -(target - observation[STATE_KEY]).norm(dim=1)


class Rightness:
    """How far right the point mass is: a score that has nothing to do with the goal."""

    name = "rightness"

    def __call__(self, observation, goals):
        return observation[STATE_KEY][:, 0].clone()


class SeenNearness:
    """The same from the picture alone: minus the distance, in pixels, of the white dot from that of the goal's colour.

    A dot that is not seen is behind the white one.
    """

    name = "seen-nearness"

    def __call__(self, observation, goals):
        images = observation[image_key("front")].long()
        rows = []
        for image, goal in zip(images, goals, strict=True):
            colour = next(rgb for name, rgb in COLOURS.items() if name in goal)
            own, named = ((image == torch.tensor(rgb)).all(-1).nonzero().float() for rgb in ((240, 240, 240), colour))
            rows.append(-(own.mean(0) - named.mean(0)).norm() if len(own) and len(named) else torch.tensor(0.0))
        return torch.stack(rows)
