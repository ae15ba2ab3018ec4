"""Acting as one recorded CUDA graph: the kernels of a whole chunk are started at once, for observations of one shape.

A small network spends most of its time on a GPU between kernels, which wait to be started one by one from Python.
"""

from collections.abc import Callable
from dataclasses import fields, replace
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from vla.observation import Observation

WARM_UP = 3
_WAITING = frozenset({"aten::_local_scalar_dense", "aten::nonzero", "aten::masked_select", "aten::equal"})
"""What needs a result on the host before it can go on."""
_INDEXING = frozenset({"aten::index", "aten::index_put", "aten::index_put_"})


class GraphedAct:
    """``act`` for observations of the shapes of the first one, on a CUDA device; its answer is a copy.

    It is recorded once, with the weights where they are: after other weights have been copied in, the graph acts with
    them; a network that was moved needs a new one. ``ValueError`` on another device, where ``act`` cannot be recorded
    because it waits for a result in between (what decodes until an end has come, for instance), and, when it is called,
    for an observation of other shapes.
    """

    def __init__(self, act: Callable[[Observation], Float[Tensor, "b h a"]], observation: Observation) -> None:
        check_cuda_graph(str(observation.state.device))
        self._seen = replace(observation, **{name: x.clone() for name, x in _tensors(observation).items()})
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream), torch.no_grad():
            for _ in range(WARM_UP):
                act(self._seen)
            waiting = waits(lambda: act(self._seen))
        torch.cuda.current_stream().wait_stream(stream)
        if waiting:
            raise ValueError(f"act cannot be recorded as a CUDA graph: it waits for the device in {', '.join(waiting)}")
        self._graph = torch.cuda.CUDAGraph()
        with torch.no_grad(), torch.cuda.graph(self._graph):
            self._actions = act(self._seen)

    def __call__(self, observation: Observation) -> Float[Tensor, "b h a"]:
        given, kept = _tensors(observation), _tensors(self._seen)
        shapes = {name: tuple(x.shape) for name, x in given.items()}
        if shapes != (recorded := {name: tuple(x.shape) for name, x in kept.items()}):
            raise ValueError(f"expected an observation of the shapes that were recorded, {recorded}, got {shapes}")
        for name, x in given.items():
            kept[name].copy_(x, non_blocking=True)
        self._graph.replay()
        return self._actions.clone()


def check_cuda_graph(device: str) -> None:
    """``ValueError`` for a device that has no CUDA graphs."""
    if torch.device(device).type != "cuda":
        raise ValueError(f"a CUDA graph needs a network on a CUDA device, this one is on {device}")


def waits(work: Callable[[], Any]) -> list[str]:
    """The operations of ``work`` that need a result on the host before the next can start, each named once.

    On the CPU they are found as on a GPU; copies from the host are not among them.
    """
    with _Operations() as operations:
        work()
    return sorted(operations.waiting)


class _Operations(TorchDispatchMode):
    """Notes which operations wait."""

    def __init__(self) -> None:
        super().__init__()
        self.waiting: set[str] = set()

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = func._schema.name
        by_mask = name in _INDEXING and any(x is not None and x.dtype == torch.bool for x in args[1])
        if name in _WAITING or by_mask:
            self.waiting.add(f"{name} by a mask" if by_mask else name)
        return func(*args, **(kwargs or {}))


def _tensors(observation: Observation) -> dict[str, Tensor]:
    named = {field.name: getattr(observation, field.name) for field in fields(observation)}
    return {name: x for name, x in named.items() if x is not None}
