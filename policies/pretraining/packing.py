"""Scenes as named arrays and names of texts, to go through pipes and into files, and back."""

from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from typing import Any

from torch import Tensor

from envs.specs import Asked, Grounding, Told

Texts = tuple[str, ...]
_PARTS: dict[str, type[Told] | type[Asked]] = {"told": Told, "asked": Asked}


def unpacked(scenes: Grounding) -> tuple[dict[str, Tensor], dict[str, Texts]]:
    """Tensors and texts by their names, those of a part as ``told.table``; :func:`packed` is the inverse."""
    tensors: dict[str, Tensor] = {}
    texts: dict[str, Texts] = {}
    for name, value in _named(scenes):
        if isinstance(value, Tensor):
            tensors[name] = value
        else:
            texts[name] = value
    return tensors, texts


def packed(tensors: Mapping[str, Tensor], texts: Mapping[str, Texts]) -> Grounding:
    """The scenes; ``TypeError`` and ``KeyError`` where something is missing or unknown."""
    values: dict[str, Any] = {**tensors, **texts}
    parts: dict[str, Any] = {
        part: kind(**{field.name: values.pop(f"{part}.{field.name}") for field in fields(kind)})
        for part, kind in _PARTS.items()
    }
    return Grounding(**values, **parts)


def _named(value: Any, prefix: str = "") -> list[tuple[str, Tensor | Texts]]:
    found: list[tuple[str, Tensor | Texts]] = []
    for name, inside in vars(value).items():
        found += _named(inside, f"{prefix}{name}.") if is_dataclass(inside) else [(prefix + name, inside)]
    return found
