"""A policy that lives on a server."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY
from policies.policy import Policy
from policies.serving.batching import world_of
from policies.serving.client import PolicyClient, check_embodiment
from policies.serving.keys import ACTIONS, WARNINGS


class RemotePolicy(Policy):
    """Asks a server for the chunk of every world, over one or several connections.

    World ``i`` uses connection ``i % len(clients)``; worlds on one connection are asked one after the
    other. Give every world its own connection when the server holds actions on violations, since
    what it holds belongs to a connection. Errors are those of :class:`PolicyClient`.
    """

    def __init__(self, clients: Sequence[PolicyClient], replan_interval: int | None = None) -> None:
        if not clients:
            raise ValueError("a remote policy needs at least one client")
        first = clients[0]
        for other in clients[1:]:
            check_embodiment(first.embodiment, other.embodiment)
        super().__init__(first.embodiment, first.horizon, replan_interval or first.replan_interval)
        self._clients = list(clients)
        self._fresh = [True] * len(clients)
        self._remarks: dict[str, list[str]] = {}

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        """What the server has remarked on these instructions, with its answers to them."""
        return [remark for text in dict.fromkeys(instructions) for remark in self._remarks.get(text, ())]

    def reset(self, mask: Bool[Tensor, " n"] | None = None) -> None:
        super().reset(mask)
        worlds = range(len(self._clients)) if mask is None else mask.nonzero()[:, 0].tolist()
        for world in worlds:
            self._fresh[world % len(self._clients)] = True

    def predict_chunk(self, observation: Mapping[str, Any]) -> Float[Tensor, "n h a"]:
        state = observation[STATE_KEY]
        chunks: list[np.ndarray] = []
        for start in range(0, len(state), len(self._clients)):
            worlds = range(start, min(start + len(self._clients), len(state)))
            busy = self._clients[: len(worlds)]
            for index, (client, world) in enumerate(zip(busy, worlds, strict=True)):
                client.send(world_of(observation, world), reset=self._fresh[index])
                self._fresh[index] = False
            for client, world in zip(busy, worlds, strict=True):
                reply = client.receive(client.config.call_timeout_s)
                chunks.append(reply[ACTIONS])
                if WARNINGS in reply:
                    self._remarks[observation[TASK_KEY][world]] = reply[WARNINGS]
        return torch.from_numpy(np.stack(chunks)).to(state.device)

    def close(self) -> None:
        """End all connections."""
        for client in self._clients:
            client.close()
