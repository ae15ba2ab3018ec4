"""The processes that learn one network together: which one this is, and what they tell each other.

A step's batch is that of one process, cut into parts by rank. Losses are sums over counts, the counts are those of all
processes, and gradients are summed: so they are those of one process, to rounding.
"""

import hashlib
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
import torch.distributed as dist
from jaxtyping import Shaped
from torch import Tensor, nn

from policies.device import resolve_device
from policies.training.sharding import is_shared_out

T = TypeVar("T")


class PeerLostError(RuntimeError):
    """Another process has ended or does not answer; it knows why."""


@dataclass(frozen=True)
class Part:
    """Rows ``first … end − 1`` of ``whole``."""

    first: int
    end: int
    whole: int

    def __len__(self) -> int:
        return self.end - self.first

    @property
    def rows(self) -> slice:
        return slice(self.first, self.end)

    def of_each(self, items: int) -> "Part":
        """The items of these rows among those of all, where each row has so many in sequence."""
        return Part(self.first * items, self.end * items, self.whole * items)


@dataclass(frozen=True, kw_only=True)
class Group:
    """This process is ``rank`` of ``size``, and ``local_rank`` of the ``local_size`` on its machine.

    Rank 0 leads: it alone writes and shows what the group does. All of them call the same methods in the same order.
    Methods that speak to the others raise :class:`PeerLostError` where one of them is gone.
    """

    rank: int = 0
    size: int = 1
    local_rank: int = 0
    local_size: int = 1

    @classmethod
    def here(cls) -> "Group":
        """That of this process, which is alone unless torch.distributed has been set up in it."""
        if not dist.is_initialized():
            return cls()
        rank, size = dist.get_rank(), dist.get_world_size()
        local_rank, local_size = os.environ.get("LOCAL_RANK", rank), os.environ.get("LOCAL_WORLD_SIZE", size)
        return cls(rank=rank, size=size, local_rank=int(local_rank), local_size=int(local_size))

    @property
    def leads(self) -> bool:
        return self.rank == 0

    def part(self, rows: int) -> Part:
        """This process's of so many rows; every one has some. ``ValueError`` for fewer rows than processes."""
        if rows < self.size:
            raise ValueError(f"a batch of {rows} cannot be shared by {self.size} processes")
        return Part(rows * self.rank // self.size, rows * (self.rank + 1) // self.size, rows)

    def device(self, name: str) -> torch.device:
        """Where this process computes: on a GPU of its own where ``name`` is ``cuda``. ``ValueError`` for none."""
        if self.size > 1 and name not in ("cpu", "cuda"):
            raise ValueError(f"{self.size} processes compute on cpu or cuda, where each has a GPU, got device {name!r}")
        return resolve_device(f"cuda:{self.local_rank}" if self.size > 1 and name == "cuda" else name)

    def threads(self, chosen: int) -> int:
        """Of torch: those ``chosen``, else this process's share of the machine's cores; 0 alone leaves torch's own."""
        if chosen or self.size == 1:
            return chosen
        cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
        return max(1, cores // self.local_size)

    def total(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """``values`` summed over all processes."""
        return self._summed(values.clone()) if self.size > 1 else values

    def largest(self, value: int) -> int:
        """The largest that any process has."""
        if self.size == 1:
            return value
        values: list[Any] = [None] * self.size
        with _speaking():
            dist.all_gather_object(values, value)
        return max(values)

    @torch.no_grad()
    def add_up(self, parameters: Iterable[nn.Parameter], numbers: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Sum over all processes the gradients of ``parameters``, in place, and ``numbers``, which are returned.

        All go in one message after the backward pass, which for a few million parameters takes no longer than torch's
        DistributedDataParallel. A parameter without a gradient anywhere stays without, so that the optimiser leaves it
        alone. Gradients of what is shared out are summed already, and stay as they are.
        """
        if self.size == 1:
            return dict(numbers)
        learning = [each for each in parameters if each.requires_grad and not is_shared_out(each)]
        gradients = [p.new_zeros(p.numel()) if p.grad is None else p.grad.reshape(-1) for p in learning]
        values = torch.stack(list(numbers.values())).float()
        reached = values.new_tensor([p.grad is not None for p in learning])
        sizes = [*map(len, gradients), len(learning), len(numbers)]
        *summed, reached, values = self._summed(torch.cat([*gradients, reached, values])).split(sizes)
        for parameter, gradient, processes in zip(learning, summed, reached.tolist(), strict=True):
            parameter.grad = gradient.view_as(parameter) if processes else None
        return dict(zip(numbers, values.unbind(), strict=True))

    def from_lead(self, make: Callable[[], T]) -> T:
        """What ``make`` gives in the leading process, where alone it is called; it must be picklable."""
        made: list[Any] = [make() if self.leads else None]
        if self.size > 1:
            with _speaking():
                dist.broadcast_object_list(made)
        return made[0]

    def gathered(self, rows: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Tensors of the same names, with the rows of all processes in their order, on the host of the leading one; in
        the others they mean nothing. What is shorter in some on its second axis is filled up with zeros.
        """
        ours = {name: tensor.detach().cpu() for name, tensor in rows.items()}
        if self.size == 1:
            return ours
        parts: list[Any] = [None] * self.size
        with _speaking():
            dist.gather_object(ours, parts if self.leads else None)
        return {name: _joined([part[name] for part in parts]) for name in ours} if self.leads else ours

    def agree(self, what: str, weights: Iterable[Tensor]) -> None:
        """``RuntimeError`` names the processes in which ``weights`` are not those of the leading one, bit by bit."""
        if self.size == 1:
            return
        digest = hashlib.sha256()
        for weight in weights:
            digest.update(weight.detach().cpu().reshape(-1).view(torch.uint8).numpy().data)
        values: list[Any] = [None] * self.size
        with _speaking():
            dist.all_gather_object(values, digest.hexdigest())
        others = [rank for rank, each in enumerate(values) if each != values[0]]
        if others:
            raise RuntimeError(f"{what} differ between rank 0 and {', '.join(f'rank {rank}' for rank in others)}")

    @contextmanager
    def one_first(self) -> Iterator[None]:
        """The block, in one process of each machine before the others, which find on the disk what it leaves there."""
        if self.local_rank:
            self._meet()
        yield
        if not self.local_rank:
            self._meet()

    def _summed(self, values: Shaped[Tensor, "*shape"]) -> Shaped[Tensor, "*shape"]:
        """``values``, which are overwritten."""
        with _speaking():
            dist.all_reduce(values)
        return values

    def _meet(self) -> None:
        if self.size > 1:
            with _speaking():
                dist.barrier()


def _joined(parts: list[Tensor]) -> Tensor:
    if parts[0].ndim > 1:
        width = max(part.shape[1] for part in parts)
        filled = [part.new_zeros(len(part), width, *part.shape[2:]) for part in parts]
        for whole, part in zip(filled, parts, strict=True):
            whole[:, : part.shape[1]] = part
        parts = filled
    return torch.cat(parts)


@contextmanager
def _speaking() -> Iterator[None]:
    try:
        yield
    except RuntimeError as error:
        raise PeerLostError(f"another process of the group has ended or does not answer: {error}") from error
