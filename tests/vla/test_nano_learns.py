"""The whole network learns to find what the instruction names."""

import pytest
import torch

from vla.backbones.nano import NanoConfig
from vla.config import VLAConfig
from vla.heads.bridge import BridgeConfig
from vla.observation import ActionChunk, Observation

COLOURS = {"red": (0.9, 0.1, 0.1), "green": (0.1, 0.8, 0.1), "blue": (0.1, 0.2, 0.9), "yellow": (0.9, 0.9, 0.1)}
SIZE_PX, SQUARE_PX, HORIZON = 64, 6, 4


def squares(backbone, count):
    """Grey images with three coloured squares; the text names the last one painted, the actions are its centre."""
    images = 0.5 + 0.03 * torch.randn(count, 1, 1, 3, SIZE_PX, SIZE_PX)
    names, corners_px = list(COLOURS), torch.randint(SIZE_PX - SQUARE_PX, (count, 3, 2))
    texts = []
    for image, corners in zip(images[:, 0, 0], corners_px, strict=True):
        colours = torch.randperm(len(names))[:3].tolist()
        for colour, (x, y) in zip(colours, corners.tolist(), strict=True):
            rgb = torch.tensor(COLOURS[names[colour]])[:, None, None]
            image[:, y : y + SQUARE_PX, x : x + SQUARE_PX] = rgb
        texts.append(f"touch the {names[colours[-1]]} cube")
    text, text_mask = backbone.tokenize(texts)
    centre = (corners_px[:, -1] + SQUARE_PX / 2) / SIZE_PX * 2 - 1
    observation = Observation(
        images=images,
        view_mask=torch.ones(count, 1, 1, dtype=torch.bool),
        text=text,
        text_mask=text_mask,
        state=torch.zeros(count, 2),
    )
    valid = torch.ones(count, HORIZON, dtype=torch.bool)
    return observation, ActionChunk(actions=centre[:, None].repeat(1, HORIZON, 1), valid=valid)


@pytest.mark.slow
def test_the_named_square_is_found_within_two_pixels():
    config = VLAConfig(
        backbone=NanoConfig(weights="fresh"),
        head=BridgeConfig(),
        cameras=("front",),
        image_size_px=(SIZE_PX, SIZE_PX),
        state_dim=2,
        action_dim=2,
        horizon=HORIZON,
    )
    model = config.build()
    steps = 400
    optimiser = torch.optim.AdamW(model.parameters())
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimiser, max_lr=2e-3, total_steps=steps, pct_start=0.1)
    for _ in range(steps):
        loss, _ = model.loss(*squares(model.backbone, 64))
        optimiser.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimiser.step()
        schedule.step()

    observation, target = squares(model.backbone, 256)
    error_px = (model.eval().act(observation) - target.actions).norm(dim=-1) * SIZE_PX / 2
    assert error_px.median() < 2.0
    assert error_px.quantile(0.9) < 4.0
