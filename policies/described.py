"""What a value is, for messages about one that does not fit."""

from typing import Any


def described(value: Any) -> str:
    """Type and shape of an array or tensor, ``float32 array of shape (3, 4)``; of anything else its type."""
    if hasattr(value, "dtype") and hasattr(value, "shape"):
        return f"{str(value.dtype).removeprefix('torch.')} array of shape {tuple(value.shape)}"
    return f"a {type(value).__name__}"
