"""The towers of a backbone that has learned what belongs together, such as the package's own."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from jaxtyping import Float, UInt8
from torch import Tensor

from envs.specs import image_key
from policies.network_input import network_images
from vla.backbone import Backbone
from vla.base import load_base
from vla.checkpoint import CheckpointError
from vla.objectives.matching import Matching
from vla.objectives.material import Material, Words
from vla.objectives.saving import load_objectives
from vla.shipped import FOLDER


class FrozenTokens:
    """The pictures' tokens and the sentences' vectors of the backbone in ``folder`` (by default the package's own).

    It is frozen, sees all of its cameras at once, and not the robot's state. Errors are those of
    :func:`vla.base.load_base`.
    """

    def __init__(self, folder: Path = FOLDER, device: torch.device | str = "cpu") -> None:
        base = load_base(folder)
        self.folder, self.sha256, self.device = folder, base.sha256, torch.device(device)
        self.cameras = base.config.cameras
        self._backbone = base.build().requires_grad_(False).to(self.device).eval()
        self._state_dim = len(base.config.state_names)

    def views(self, shown: Mapping[str, Tensor], rows: Tensor | slice = slice(None)) -> UInt8[Tensor, "n v h w 3"]:
        """What the cameras show of an observation, or of some of its rows."""
        return torch.stack([shown[image_key(camera)][rows] for camera in self.cameras], dim=1)

    @torch.inference_mode()
    def of_pictures(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n p"]:
        """All tokens of each row, one after the other."""
        shown = material_of(self._backbone, images.to(self.device), self._state_dim)
        return self._backbone.patches(shown.silent(len(images)))[0].flatten(1).float().clone()

    @torch.inference_mode()
    def of_texts(self, texts: Sequence[str]) -> Float[Tensor, "n w"]:
        """The vector of each text; ``ValueError`` for one that is longer than the text window."""
        self._backbone.check_texts(texts)
        words = _tokens(self._backbone, texts, self.device)
        return self._backbone.sentence(words.ids, words.mask).float().clone()


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

    @torch.inference_mode()
    def embed_images(self, images: UInt8[Tensor, "n v h w 3"]) -> Float[Tensor, "n e"]:
        shown = material_of(self._backbone, images.to(self.device), self._state_dim)
        return self._matching.see(self._backbone, shown).clone()

    @torch.inference_mode()
    def embed_texts(self, texts: Sequence[str]) -> Float[Tensor, "n e"]:
        self._backbone.check_texts(texts)
        return self._matching.read(self._backbone, _tokens(self._backbone, texts, self.device)).clone()


def material_of(backbone: Backbone, images: UInt8[Tensor, "n v h w 3"], state_dim: int) -> Material:
    """Pictures as objectives take them, on their device, with a state of zeros."""
    pictures = network_images(images, backbone.image_size_px)[:, None]
    return Material(
        images=pictures,
        view_mask=torch.ones(pictures.shape[:3], dtype=torch.bool, device=images.device),
        state=torch.zeros(len(pictures), state_dim, device=images.device),
        nothing=_tokens(backbone, [""], images.device),
    )


def _tokens(backbone: Backbone, texts: Sequence[str], device: torch.device) -> Words:
    ids, mask = backbone.tokenize(texts)
    return Words(ids=ids.to(device), mask=mask.to(device))
