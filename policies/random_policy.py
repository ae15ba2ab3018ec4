"""Actions drawn at random: what success comes to without any skill."""

import hashlib
from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor

from envs.specs import STATE_KEY, EmbodimentSpec, image_key
from policies.policy import ChunkPolicy

HORIZON = 8


class RandomPolicy(ChunkPolicy):
    """Every action of a chunk is uniform within the bounds of the embodiment's action, and independent of the others.

    What is drawn depends on ``seed`` and on what the world looks like, to the last bit, so that an episode is the same
    whatever other worlds there are.
    """

    def __init__(self, embodiment: EmbodimentSpec, seed: int = 0, horizon: int = HORIZON) -> None:
        super().__init__(embodiment, horizon, horizon)
        self.seed = seed
        self._keys = (STATE_KEY, *map(image_key, embodiment.camera_names))

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        seen = [observation[key].cpu().numpy() for key in self._keys if key in observation]
        chunks = [self._drawn([each[world] for each in seen]) for world in range(len(seen[0]))]
        return torch.stack(chunks).to(observation[STATE_KEY].device)

    def _drawn(self, seen: list[np.ndarray]) -> Float[Tensor, "h a"]:
        digest = hashlib.sha256(self.seed.to_bytes(8, "little", signed=True))
        for each in seen:
            digest.update(np.ascontiguousarray(each).data)
        rng = np.random.default_rng(np.frombuffer(digest.digest(), np.uint32))
        low, high = np.asarray(self.embodiment.action_low), np.asarray(self.embodiment.action_high)
        drawn = rng.uniform(low, high, size=(self.horizon, len(low))).astype(np.float32)
        return torch.from_numpy(drawn.clip(low.astype(np.float32), high.astype(np.float32)))
