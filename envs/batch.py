"""Dataclasses of tensors whose first axis is the world."""

from collections.abc import Callable, Mapping
from dataclasses import fields, replace
from functools import partial
from typing import Any, Self

import torch
from jaxtyping import Bool, Int
from torch import Tensor


def where_worlds(mask: Bool[Tensor, " n"], mine: Tensor, others: Tensor) -> Tensor:
    """The rows of ``mine`` in the worlds of ``mask``, those of ``others`` elsewhere; a new tensor."""
    return torch.where(mask.reshape(-1, *(1,) * (mine.dim() - 1)), mine, others)


class Batch:
    """Base of frozen dataclasses that hold tensors ``(n, …)``, dicts of such tensors, and things without worlds."""

    def take(self, worlds: Int[Tensor, " k"]) -> Self:
        """The rows of some worlds."""
        return self._mapped(lambda tensor: tensor[worlds])

    def replaced(self, worlds: Int[Tensor, " k"], fresh: Self) -> Self:
        """``fresh``, which has k rows, in ``worlds``; these rows elsewhere."""
        return self._mapped(lambda old, new: old.index_copy(0, worlds, new), fresh)

    def where(self, mask: Bool[Tensor, " n"], other: Self) -> Self:
        """These rows in the worlds of ``mask``, those of ``other`` elsewhere."""
        return self._mapped(partial(where_worlds, mask), other)

    def tensors(self, prefix: str) -> dict[str, Tensor]:
        """All tensors by name, such as ``prefix.position`` or ``prefix.roles.block``."""
        found: dict[str, Tensor] = {}
        for name, value in self._parts():
            if isinstance(value, Tensor):
                found[f"{prefix}.{name}"] = value
            else:
                found |= {f"{prefix}.{name}.{key}": each for key, each in value.items()}
        return found

    def with_tensors(self, prefix: str, tensors: Mapping[str, Tensor]) -> Self:
        """The inverse of :meth:`tensors`; ``KeyError`` names what is missing."""
        changed: dict[str, Any] = {}
        for name, value in self._parts():
            if isinstance(value, Tensor):
                changed[name] = tensors[f"{prefix}.{name}"].to(value)
            else:
                changed[name] = {key: tensors[f"{prefix}.{name}.{key}"].to(each) for key, each in value.items()}
        return replace(self, **changed)  # pyright: ignore[reportArgumentType]

    def _parts(self) -> list[tuple[str, Any]]:
        values = [(field.name, getattr(self, field.name)) for field in fields(self)]  # pyright: ignore[reportArgumentType]
        return [(name, value) for name, value in values if isinstance(value, Tensor | Mapping)]

    def _mapped(self, change: Callable[..., Tensor], *others: Self) -> Self:
        changed: dict[str, Any] = {}
        for name, value in self._parts():
            rest = [getattr(other, name) for other in others]
            if isinstance(value, Tensor):
                changed[name] = change(value, *rest)
            else:
                changed[name] = {key: change(each, *(other[key] for other in rest)) for key, each in value.items()}
        return replace(self, **changed)  # pyright: ignore[reportArgumentType]
