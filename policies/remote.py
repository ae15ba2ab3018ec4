"""A policy that lives on a server."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float
from torch import Tensor

from envs.specs import STATE_KEY, TASK_KEY
from policies.policy import Plan, Policy, spread
from policies.serving.batching import world_of
from policies.serving.client import PolicyClient, check_embodiment, check_pace
from policies.serving.keys import ACTIONS, ANSWER, WARNINGS


class Episodes(NamedTuple):
    """Which start of the policy these episodes are from, and what each world carried out last, None where its first
    observation is still to be sent.
    """

    start: int
    done: tuple[Float[np.ndarray, " a"] | None, ...]


class RemotePolicy(Policy[Episodes]):
    """Asks a server for the chunk of every world, over one or several connections.

    World ``i`` uses connection ``i % len(clients)``; worlds on one connection are asked one after the other. What a
    server remembers belongs to a connection. Where it does (its hello says so), every world needs one of its own,
    and a new start takes them over from the one before: ``ValueError`` otherwise, and for a ``replan_interval`` that is
    not the server's where that tells time by its plans. Other errors are those of :class:`PolicyClient`.
    """

    def __init__(self, clients: Sequence[PolicyClient], replan_interval: int | None = None) -> None:
        if not clients:
            raise ValueError("a remote policy needs at least one client")
        first = clients[0]
        for other in clients[1:]:
            check_embodiment(first.embodiment, other.embodiment)
        super().__init__(first.embodiment, first.horizon, replan_interval or first.replan_interval)
        check_pace(first, self.replan_interval)
        self.paced = first.paced
        self.remembers = bool(first.metadata.get("remembers", False))
        self._clients = list(clients)
        self._starts = 0
        self._remarks: dict[str, list[str]] = {}

    def remarks(self, instructions: Sequence[str]) -> list[str]:
        """What the server has remarked on these instructions, with its answers to them."""
        return [remark for text in dict.fromkeys(instructions) for remark in self._remarks.get(text, ())]

    def start(self, n: int) -> Episodes:
        if self.remembers and n > len(self._clients):
            raise ValueError(
                f"the server remembers what it did on a connection, so each of {n} worlds needs one of its own; "
                f"there are {len(self._clients)}"
            )
        self._starts += 1
        return Episodes(self._starts, (None,) * n)

    def plan(self, state: Episodes, observation: Mapping[str, Any], mask: Bool[Tensor, " n"]) -> tuple[Episodes, Plan]:
        if self.remembers and state.start != self._starts:
            raise ValueError("other episodes have begun on the connections of these, and the server forgot them")
        worlds = mask.nonzero()[:, 0].tolist()
        replies = self._replies(observation, {world: state.done[world] for world in worlds})
        chunks = {world: reply[ACTIONS] for world, reply in replies.items()}
        chunk = torch.from_numpy(np.stack([chunks[world] for world in worlds])).to(observation[STATE_KEY].device)
        length = torch.full((len(worlds),), self.replan_interval, device=chunk.device)
        done = list(state.done)
        for world, planned in chunks.items():
            done[world] = planned[self.replan_interval - 1]
        said = {world: str(reply.get(ANSWER, "")) for world, reply in replies.items()}
        answers = tuple(said.get(world, "") for world in range(len(mask))) if any(said.values()) else ()
        return Episodes(state.start, tuple(done)), Plan(spread(chunk, mask), spread(length, mask), answers)

    def close(self) -> None:
        """End all connections."""
        for client in self._clients:
            client.close()

    def _replies(
        self, observation: Mapping[str, Any], done: Mapping[int, Float[np.ndarray, " a"] | None]
    ) -> dict[int, dict[str, Any]]:
        """The server's answers by world, those on different connections at the same time."""
        replies: dict[int, dict[str, Any]] = {}
        waiting = dict(done)
        while waiting:
            asked: dict[int, PolicyClient] = {}
            for world in list(waiting):
                client = self._clients[world % len(self._clients)]
                if client not in asked.values():
                    last = waiting.pop(world)
                    client.send(world_of(observation, world), reset=last is None, last_action=last)
                    asked[world] = client
            for world, client in asked.items():
                reply = client.receive(client.config.call_timeout_s)
                replies[world] = reply
                if WARNINGS in reply:
                    self._remarks[observation[TASK_KEY][world]] = reply[WARNINGS]
        return replies
