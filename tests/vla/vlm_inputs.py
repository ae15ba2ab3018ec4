"""Networks over tiny checkpoints, and the same sequences through transformers' own forward."""

import torch
from transformers import AutoModelForImageTextToText
from vla_inputs import ACTION_DIM, HORIZON, STATE_DIM

from vla.backbones.vlm.config import VLMConfig
from vla.backbones.vlm.pictures import patchify
from vla.config import VLAConfig
from vla.features import TokenRole
from vla.heads.bridge import BridgeConfig

SIZE_PX = (32, 48)
IMAGE_IDS = {"qwen2_vl": 8, "qwen2_5_vl": 8, "qwen3_vl": 8, "internvl": 12}


def vlm_config(folder, **fields):
    return VLMConfig(**{"checkpoint": str(folder), "tuning": "frozen", "n_queries": 4, **fields})


def vlm(folder, *, views=2, **fields):
    return vlm_config(folder, **fields).build(state_dim=STATE_DIM, views=views, image_size_px=SIZE_PX)


def vlm_policy_config(folder, head=None, **fields):
    return VLAConfig(
        backbone=vlm_config(folder, **fields),
        head=head or BridgeConfig(heads=2),
        cameras=("front", "wrist"),
        image_size_px=SIZE_PX,
        state_dim=STATE_DIM,
        action_dim=ACTION_DIM,
        horizon=HORIZON,
    )


@torch.no_grad()
def native(folder, family, backbone, observation):
    """Hidden states of transformers' own forward on the images and the text that ``backbone`` sees, and which of its
    tokens they are; ids are padded on the right.
    """
    model = AutoModelForImageTextToText.from_pretrained(folder, dtype=torch.float32).eval().model
    layout = backbone.encode(observation).features.layout
    known = layout.where(TokenRole.IMAGE, TokenRole.TEXT)
    b = len(observation.state)
    frame = backbone.frame.ids.masked_fill(backbone.frame.view >= 0, IMAGE_IDS.get(family, 3))
    ids = torch.cat([frame.expand(b, -1), observation.text], dim=1)
    mask = torch.cat([torch.ones(b, len(frame), dtype=torch.bool), observation.text_mask], dim=1)
    is_image = torch.cat([backbone.frame.view >= 0, torch.zeros(observation.text.shape[1], dtype=torch.bool)])
    kinds = is_image.long().expand(b, -1)
    side = backbone.side_px
    images = backbone._parts.pictures[0].prepare(observation.images[:, 0], (side, side))
    given = {"pixel_values": images if family in ("smolvlm", "idefics3") else images.flatten(0, 1)}
    if family.startswith("qwen"):
        given["pixel_values"] = patchify(images.flatten(0, 1), 14, 2, 2)
        given["image_grid_thw"] = torch.tensor([[1, side // 14, side // 14]] * (b * backbone.views))
        given["mm_token_type_ids"] = kinds
    if family.startswith("paligemma"):
        given["token_type_ids"] = torch.zeros_like(ids)
    if family == "gemma3":
        given["token_type_ids"] = kinds
    if family == "florence2":
        given["decoder_input_ids"] = ids[:, :1]
    out = model(input_ids=ids, attention_mask=mask.long(), output_hidden_states=True, use_cache=False, **given)
    hidden = out.encoder_hidden_states if family == "florence2" else out.hidden_states
    return torch.stack(hidden[1:]), known, mask
