"""The towers of a backbone that has learned what belongs together, such as the package's own."""

from collections.abc import Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from policies.network_input import network_images
from vla.base import load_base
from vla.checkpoint import CheckpointError
from vla.objectives.matching import Matching
from vla.objectives.material import Material, Words
from vla.objectives.saving import load_objectives
from vla.shipped import FOLDER


class BackboneTowers:
    """The towers of the backbone in ``folder`` (by default the package's own), as the objective *matching* left them.

    They see all of its cameras at once, and not the robot's state. ``CheckpointError`` where something is missing or
    damaged, or nothing was learned of matching.
    """

    def __init__(self, folder: Path = FOLDER, device: torch.device | str = "cpu") -> None:
        objectives = load_objectives(folder)
        matching = objectives.get(Matching)
        if matching is None:
            raise CheckpointError(f"the backbone in {folder} has not learned what belongs together (matching)")
        config = load_base(folder).config
        self.name = "nano-towers" if folder == FOLDER else "backbone-towers"
        self.cameras, self.device = config.cameras, torch.device(device)
        self._backbone, self._matching = objectives.backbone.to(self.device).eval(), matching.to(self.device).eval()
        self._state_dim = len(config.state_names)
        self._nothing = self._tokens([""])

    @torch.inference_mode()
    def embed_images(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n e"]:
        pictures = network_images(images.to(self.device), self._backbone.image_size_px)[:, None]
        shown = Material(
            images=pictures,
            view_mask=torch.ones(pictures.shape[:3], dtype=torch.bool, device=self.device),
            state=torch.zeros(len(pictures), self._state_dim, device=self.device),
            nothing=self._nothing,
        )
        return self._matching.see(self._backbone, shown).clone()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        self._backbone.check_texts(texts)
        return self._matching.read(self._backbone, self._tokens(texts)).clone()

    def _tokens(self, texts: Sequence[str]) -> Words:
        ids, mask = self._backbone.tokenize(texts)
        return Words(ids=ids.to(self.device), mask=mask.to(self.device))
