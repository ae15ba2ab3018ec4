"""A vision encoder of transformers, from a folder or the hub: pictures to embeddings, and texts where it reads too."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.nn import functional

from vla.backbones.vlm.locate import locate
from vla.backbones.vlm.pretrained import read_architecture, read_network, read_pictures, weights_hash
from vla.checkpoint import CheckpointError

SIDE_PX = 224
"""Of pictures, where a checkpoint does not say what it learned with."""


class PictureEncoder:
    """CLIP, SigLIP, DINOv2, ViT and their like, frozen: whatever transformers loads that sees pictures.

    ``dim`` is the size of :meth:`embed`, ``cell_dim`` that of :meth:`cells`; ``reads`` says whether it has an
    embedding of texts in the same space. ``fingerprint`` is a hash of its weights. ``CheckpointError`` (a
    ``ValueError``) where there is no such model.
    """

    def __init__(self, name: Path, device: torch.device | str = "cpu") -> None:
        self._folder = locate(str(name))
        architecture = read_architecture(self._folder)
        vision = getattr(architecture, "vision_config", architecture)
        if not hasattr(vision, "num_channels") and not hasattr(vision, "patch_size"):
            raise CheckpointError(f"expected a vision encoder in {self._folder}, got a {architecture.model_type}")
        self._pictures = read_pictures(self._folder)
        self._model, pooled = _loaded(self._folder, architecture)
        self._tower: Any = getattr(self._model, "vision_model", self._model)
        self._pools = pooled
        self.reads = hasattr(self._model, "get_text_features")
        side = getattr(vision, "image_size", SIDE_PX)
        self.side_px: int = side if isinstance(side, int) else side[0]
        self._patch_px: Any = getattr(vision, "patch_size", None)
        self.fingerprint = weights_hash(self._model)
        self._model.to(device)
        self._device = torch.device(device)
        black = torch.zeros(1, 3, self.side_px, self.side_px)
        self.dim, self.cell_dim = self.embed(black).shape[-1], self.cells(black, 1).shape[-1]

    @torch.no_grad()
    def cells(self, images: Float[Tensor, "n 3 h w"], grid: int) -> Float[Tensor, "n k e"]:
        """The mean of the tokens of pictures, RGB in [0, 1], in each of grid × grid cells, row by row."""
        patches = self._patches(self._tower(pixel_values=self._prepared(images)).last_hidden_state)
        return functional.adaptive_avg_pool2d(patches, grid).flatten(2).mT.float()

    @torch.no_grad()
    def embed(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n e"]:
        """One unit vector for each picture: in the space that it shares with texts, where it reads; else the encoder's
        own summary, or the mean of its tokens where it has learned none.
        """
        prepared = self._prepared(images)
        if hasattr(self._model, "get_image_features"):
            found = self._model.get_image_features(pixel_values=prepared)
            pooled = getattr(found, "pooler_output", found)
        else:
            found = self._tower(pixel_values=prepared)
            pooled = getattr(found, "pooler_output", None) if self._pools else None
            pooled = self._patches(found.last_hidden_state).mean(dim=(2, 3)) if pooled is None else pooled
        return functional.normalize(pooled.flatten(1).float(), dim=-1)

    @torch.no_grad()
    def embed_texts(self, sentences: Sequence[str]) -> Float[Tensor, "n e"]:
        """Unit vectors in the pictures' space. ``TypeError`` where it does not read; ``ValueError`` for a sentence that
        is longer than its window.
        """
        if not self.reads:
            raise TypeError(f"the encoder in {self._folder} has no embedding of texts")
        from transformers import AutoTokenizer

        tokenizer: Any = AutoTokenizer.from_pretrained(str(self._folder), local_files_only=True)
        window: int = self._model.config.text_config.max_position_embeddings
        siglip = self._model.config.model_type.startswith("siglip")  # it learned with texts padded to its window
        padding: dict[str, Any] = {"padding": "max_length", "max_length": window} if siglip else {"padding": True}
        tokens = tokenizer(list(sentences), truncation=False, return_tensors="pt", **padding)
        if tokens["input_ids"].shape[1] > window:
            raise ValueError(f"expected sentences of at most {window} tokens (the encoder's), got longer ones")
        known = {name: tokens[name].to(self._device) for name in ("input_ids", "attention_mask") if name in tokens}
        found = self._model.get_text_features(**known)
        return functional.normalize(getattr(found, "pooler_output", found).float(), dim=-1)

    def _prepared(self, images: Float[Tensor, "n 3 h w"]) -> Float[Tensor, "n 3 y x"]:
        return self._pictures.prepare(images.to(self._device), (self.side_px, self.side_px))

    def _patches(self, tokens: Tensor) -> Float[Tensor, "n e y x"]:
        """The tokens of the picture in their places; what stands before them, a class or registers, is left out."""
        if tokens.ndim == 4:  # of convolutions
            return tokens
        patch = self._patch_px if isinstance(self._patch_px, int) else self._patch_px[0]
        side = self.side_px // patch
        return tokens[:, tokens.shape[1] - side * side :].mT.unflatten(2, (side, side))


def _loaded(folder: Path, architecture: Any) -> tuple[Any, bool]:
    """The model, and whether the checkpoint has all that it pools with."""
    model, missing = read_network(folder, architecture)
    if lacking := [name for name in missing if "pooler" not in name]:
        raise CheckpointError(f"the weights in {folder} lack {len(lacking)} tensors, among them {lacking[0]}")
    if not (hasattr(model, "get_image_features") or model.main_input_name == "pixel_values"):
        raise CheckpointError(f"expected a vision encoder in {folder}, got a {model.config.model_type}")
    return model.requires_grad_(False), not missing
