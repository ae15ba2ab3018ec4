"""Running the same Warp launches again and again: recorded once as a graph, replayed in PyTorch's stream."""

from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager

import torch
import warp as wp


def start_warp(device: torch.device) -> wp.Device:
    """Warp's name for a torch device; Warp is kept from reporting every kernel it loads, unless told otherwise."""
    if wp.config.log_level == wp.LOG_INFO:
        wp.config.log_level = wp.LOG_WARNING
    wp.init()
    return wp.device_from_torch(device)


class Graphs:
    """Programs (functions that only launch kernels on fixed arrays), by key.

    Recording freezes array addresses: what a program reads may be written to, never replaced. With ``record`` False
    programs run directly, which computes the same and is slow for few worlds.
    """

    def __init__(self, device: wp.Device, record: bool) -> None:
        self._device, self._record = device, record
        self._graphs: dict[Hashable, wp.Graph] = {}

    def run(self, key: Hashable, program: Callable[[], None]) -> None:
        """Run ``program``, which must be the same whenever ``key`` is.

        Run it :meth:`directly` once before, so that its kernels are compiled before they are recorded.
        """
        if not self._record:
            self.directly(program)
            return
        if key not in self._graphs:
            with wp.ScopedDevice(self._device), wp.ScopedCapture(self._device) as capture:
                program()
            assert capture.graph is not None
            self._graphs[key] = capture.graph
        wp.capture_launch(self._graphs[key], stream=self._stream())

    def directly(self, program: Callable[[], None]) -> None:
        """Run ``program`` without recording it."""
        with wp.ScopedDevice(self._device), self._in_torch_stream():
            program()

    def clear(self) -> None:
        """Forget every graph and free its memory."""
        self._graphs.clear()

    def _stream(self) -> wp.Stream | None:
        if not self._device.is_cuda:
            return None
        return wp.stream_from_torch(torch.cuda.current_stream(wp.device_to_torch(self._device)))

    @contextmanager
    def _in_torch_stream(self) -> Iterator[None]:
        stream = self._stream()
        if stream is None:
            yield
            return
        with wp.ScopedStream(stream):
            yield
