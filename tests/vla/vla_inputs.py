"""Small networks and random inputs for the tests of `vla`."""

import torch

from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.objectives.material import Captions, Material, Questions, Words
from vla.observation import ActionChunk, Observation

TINY = {
    "weights": "fresh",
    "width": 32,
    "depth": 2,
    "heads": 2,
    "n_queries": 4,
    "channels": 16,
    "blocks": 1,
    "wide": 16,
    "keypoints": 3,
    "keypoints_per_token": 1,
    "second_keypoints": 2,
    "patch_px": 16,
}
STATE_DIM, ACTION_DIM, HORIZON, SIZE_PX = 5, 3, 4, (32, 48)

TOLD = ("a red cube near a bin", "two blue balls")
FALSE = ("a blue cube near a bin", "two red balls")


def tiny_nano(*, views=2, state_dim=STATE_DIM, image_size_px=SIZE_PX, **overrides):
    config = NanoConfig(**{**TINY, **overrides})
    return config.build(state_dim=state_dim, views=views, image_size_px=image_size_px)


def tiny_config(head=None, **overrides):
    return VLAConfig(
        backbone=NanoConfig(**{**TINY, **overrides}),
        head=head or BridgeConfig(heads=2),
        cameras=("front", "wrist"),
        image_size_px=SIZE_PX,
        state_dim=STATE_DIM,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
    )


def random_observation(backbone, texts=("pick up the red cube", "put the blue block into the green bin"), *, frames=1):
    b, v, (h, w) = len(texts), backbone.views, backbone.image_size_px
    text, text_mask = backbone.tokenize(texts)
    return Observation(
        images=torch.rand(b, frames, v, 3, h, w),
        view_mask=torch.ones(b, frames, v, dtype=torch.bool),
        text=text,
        text_mask=text_mask,
        state=torch.randn(b, backbone.state_dim),
    )


def with_depth(observation, *, calibrated=True):
    b, t, v = observation.view_mask.shape
    h, w = observation.images.shape[-2:]
    intrinsics = torch.tensor([[40.0, 0.0, w / 2], [0.0, 40.0, h / 2], [0.0, 0.0, 1.0]]).expand(b, t, v, 3, 3)
    T_world_cam = torch.eye(4).repeat(b, t, v, 1, 1)
    T_world_cam[..., :3, 3] = torch.randn(b, t, v, 3)
    values = {name: getattr(observation, name) for name in ("images", "view_mask", "text", "text_mask", "state")}
    cameras = {"intrinsics": intrinsics, "T_world_cam": T_world_cam} if calibrated else {}
    return Observation(**values, depth=0.3 + torch.rand(b, t, v, h, w), **cameras)


def random_target(batch, *, horizon=HORIZON, action_dim=ACTION_DIM):
    return ActionChunk(
        actions=torch.randn(batch, horizon, action_dim), valid=torch.ones(batch, horizon, dtype=torch.bool)
    )


def material_of(backbone, observation, **said):
    """The observation's pictures and state, and what is ``said`` about them."""
    images, view_mask, state = observation.images, observation.view_mask, observation.state
    return Material(images=images, view_mask=view_mask, state=state, nothing=words_of(backbone, [""]), **said)


def words_of(backbone, texts, ended=False):
    ids, mask = backbone.tokenize(texts, ended)
    return Words(ids=ids, mask=mask)


def telling_nano(**fields):
    config = NanoConfig(**{**TINY, "max_text_tokens": 24, **fields})
    return config.build(state_dim=STATE_DIM, views=2, image_size_px=SIZE_PX)


def told_scene(backbone, told=TOLD, false=FALSE):
    captions = Captions(
        words=words_of(backbone, told),
        told=words_of(backbone, told, ended=True),
        false=words_of(backbone, false),
        about=torch.arange(len(told)),
    )
    questions = Questions(
        words=words_of(backbone, ("what is red?", "how many balls?", "is there a bin?")),
        answers=words_of(backbone, ("a cube", "two", "yes"), ended=True),
        about=torch.tensor([0, 1, 1]),
    )
    return material_of(backbone, random_observation(backbone), captions=captions, questions=questions)
