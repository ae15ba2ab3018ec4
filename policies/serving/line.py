"""The robot's end of its line to a policy server's page: orders come in, what it does goes out.

The line is beside the connection on which actions are asked for, so that an operator's stop or hand does not wait for a
chunk to end. It needs no more than the client does.
"""

import logging
import queue
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack, suppress
from dataclasses import replace
from typing import Any

import numpy as np
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import ClientConnection

from policies.serving.codec import encode
from policies.serving.connection import ClientConfig, SendWatch, ServerUnavailableError, open_connection
from policies.serving.orders import ORDERS_LAST_S, Orders, OrdersError

log = logging.getLogger(__name__)

LINE_PATH = "/line"
SHOWN_SIDE_PX = 256
"""Larger pictures are thinned out before they are shown."""
REPORTS_PER_S = 15.0
"""Reports beyond this rate are left out: they are for eyes."""
SEND_S = 1.0
"""A report that has not gone out within this time ends the line: who is to read it does not."""
LINE_KEY = "line"
"""In a hello: the name by which a robot opens its line."""


class RobotLine:
    """Holds the latest orders, and sends the latest report, in two threads. ``clock`` gives seconds.

    A line that breaks stays broken, and :attr:`orders` then say to hold: who could stop the robot is not there any
    more. :class:`ServerUnavailableError` where it cannot be opened.
    """

    def __init__(
        self, config: ClientConfig, name: str, action_dim: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._clock = clock
        self._action_dim = action_dim
        self._open = ExitStack()
        address = f"{config.url.rstrip('/')}{LINE_PATH}?robot={name}"
        self._socket: ClientConnection = open_connection(replace(config, url=address, wait_s=0.0), self._open)
        self._watch = SendWatch(self._socket)
        self._open.callback(self._watch.close)
        self._orders, self._came_s = Orders(axes=(0.0,) * action_dim), -np.inf
        self._reports: queue.Queue[Mapping[str, Any] | None] = queue.Queue(maxsize=1)
        self._due_s = -np.inf
        self._threads = [
            threading.Thread(target=target, name=f"robot-line-{what}", daemon=True)
            for what, target in (("orders", self._listen), ("reports", self._tell))
        ]
        for thread in self._threads:
            thread.start()

    @property
    def orders(self) -> Orders:
        """The latest orders; to hold, with nobody there, once they are older than ``ORDERS_LAST_S``."""
        orders = self._orders
        if self._clock() - self._came_s > ORDERS_LAST_S:
            return replace(orders, mode="held", attended=False)
        return orders

    @property
    def silent(self) -> bool:
        """Whether no orders have come for ``ORDERS_LAST_S``."""
        return self._clock() - self._came_s > ORDERS_LAST_S

    def report(self, images: Mapping[str, np.ndarray], facts: Mapping[str, Any], urgent: bool = False) -> None:
        """Tell what the robot sees, uint8 ``(h, w, 3)`` by camera, and JSON-ready ``facts``; never waits.

        Left out where the last one was a moment ago and this is not ``urgent``, or is still on its way.
        """
        now_s = self._clock()
        if not urgent and now_s < self._due_s:
            return
        self._due_s = now_s + 1.0 / REPORTS_PER_S
        with suppress(queue.Full):
            self._reports.put_nowait({"images": {name: shown(image) for name, image in images.items()}, **facts})

    def close(self) -> None:
        """Hang up; safe to call twice."""
        self._open.close()
        with suppress(queue.Full):
            self._reports.put_nowait(None)

    def _listen(self) -> None:
        try:
            while True:
                frame = self._socket.recv()
                if not isinstance(frame, str):
                    raise OrdersError("expected orders as text, got a binary frame")
                self._orders, self._came_s = Orders.from_json(frame, self._action_dim), self._clock()
        except (ConnectionClosed, ServerUnavailableError) as closed:
            log.info("the line to the page ended: %s", closed)
        except OrdersError as error:
            log.error("the line to the page was given up: %s", error)
            self._socket.close()

    def _tell(self) -> None:
        try:
            while (report := self._reports.get()) is not None:
                with self._watch.within(SEND_S):
                    self._socket.send(encode(dict(report)))
        except ConnectionClosed:
            return


def shown(image: np.ndarray) -> np.ndarray:
    """``image`` ``(h, w, 3)``, every n-th pixel of it where it is larger than is shown."""
    step = -(-max(image.shape[:2]) // SHOWN_SIDE_PX)
    return np.ascontiguousarray(image[::step, ::step])
