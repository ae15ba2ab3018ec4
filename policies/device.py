"""Where a network computes."""

import torch


def resolve_device(name: str) -> torch.device:
    """The device called ``name``; ``ValueError`` says which there are where torch cannot use it here."""
    there = devices()
    if name not in there:
        raise ValueError(f"there is no device {name!r} that torch can use here; expected one of {', '.join(there)}")
    return torch.device(name)


def devices() -> tuple[str, ...]:
    """What torch can compute on in this process: ``cpu``, and ``cuda``, ``cuda:0`` … or ``mps`` where they are."""
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    cuda = ("cuda", *(f"cuda:{index}" for index in range(count))) if count else ()
    return ("cpu", *cuda, *(("mps",) if torch.backends.mps.is_available() else ()))
