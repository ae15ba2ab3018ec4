"""A policy that lives on a server."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY
from policies.policy import Plan, Policy, spread
from policies.serving.batching import world_of
from policies.serving.client import PolicyClient, check_embodiment
from policies.serving.keys import ACTIONS


class Episodes(NamedTuple):
    """Which start of the policy these episodes are from, and which worlds' first observations are still to be sent."""

    start: int
    fresh: tuple[bool, ...]


class RemotePolicy(Policy[Episodes]):
    """Asks a server for the chunk of every world, over one or several connections.

    World ``i`` uses connection ``i % len(clients)``; worlds on one connection are asked one after the other. What a
    server remembers belongs to a connection. Where it does (its hello says so), every world needs one of its own,
    and a new start takes them over from the one before: ``ValueError`` otherwise. Other errors are those of
    :class:`PolicyClient`.
    """

    def __init__(self, clients: Sequence[PolicyClient], replan_interval: int | None = None) -> None:
        if not clients:
            raise ValueError("a remote policy needs at least one client")
        first = clients[0]
        for other in clients[1:]:
            check_embodiment(first.embodiment, other.embodiment)
        super().__init__(first.embodiment, first.horizon, replan_interval or first.replan_interval)
        self.remembers = bool(first.metadata.get("remembers", False))
        self._clients = list(clients)
        self._starts = 0

    def start(self, n: int) -> Episodes:
        if self.remembers and n > len(self._clients):
            raise ValueError(
                f"the server remembers what it did on a connection, so each of {n} worlds needs one of its own; "
                f"there are {len(self._clients)}"
            )
        self._starts += 1
        return Episodes(self._starts, (True,) * n)

    def plan(self, state: Episodes, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[Episodes, Plan]:
        if self.remembers and state.start != self._starts:
            raise ValueError("other episodes have begun on the connections of these, and the server forgot them")
        asked = mask.tolist()
        worlds = [world for world, due in enumerate(asked) if due]
        chunks = self._chunks(observation, {world: state.fresh[world] for world in worlds})
        chunk = torch.from_numpy(np.stack([chunks[world] for world in worlds])).to(observation[STATE_KEY].device)
        length = torch.full((len(worlds),), self.replan_interval, device=chunk.device)
        fresh = tuple(new and not due for new, due in zip(state.fresh, asked, strict=True))
        return Episodes(state.start, fresh), Plan(spread(chunk, mask), spread(length, mask))

    def close(self) -> None:
        """End all connections."""
        for client in self._clients:
            client.close()

    def _chunks(self, observation: Mapping[str, Any], fresh: Mapping[int, bool]) -> dict[int, Float[np.ndarray, "h a"]]:
        """The server's answers by world, those on different connections at the same time."""
        chunks: dict[int, np.ndarray] = {}
        waiting = dict(fresh)
        while waiting:
            asked: dict[int, PolicyClient] = {}
            for world in list(waiting):
                client = self._clients[world % len(self._clients)]
                if client not in asked.values():
                    client.send(world_of(observation, world), reset=waiting.pop(world))
                    asked[world] = client
            for world, client in asked.items():
                chunks[world] = client.receive(client.config.call_timeout_s)[ACTIONS]
        return chunks
