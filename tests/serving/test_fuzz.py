"""Hostile bytes at every layer of a running server: TCP, HTTP, WebSocket frames, messages."""

import os
import socket
import threading
import time

import numpy as np
import pytest
from serving_fakes import HORIZON, LinearPolicy, wire_observation
from websockets.sync.client import connect

from policies.serving.codec import decode, encode
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer, running

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)


def open_files() -> int:
    return len(os.listdir("/proc/self/fd"))


def mutated(rng: np.random.Generator, good: bytes) -> bytes | str:
    """One hostile message: random bytes, or a good one with bytes changed, cut, repeated or swapped, or text."""
    kind = rng.integers(6)
    if kind == 0:
        return rng.bytes(rng.integers(0, 200))
    if kind == 1:
        return good[: rng.integers(0, len(good))]
    if kind == 2:
        start, length = rng.integers(0, len(good), 2)
        return good[:start] + good[start : start + length] * 2
    if kind == 3:
        return good[rng.integers(1, len(good)) :] + good
    if kind == 4:
        return "".join(chr(c) for c in rng.integers(32, 0x2FFF, rng.integers(0, 50)))
    data = bytearray(good)
    for _ in range(rng.integers(1, 6)):
        data[rng.integers(min(len(data), 400) if rng.integers(2) else len(data))] = rng.integers(256)
    return bytes(data)


def bombard(frames: int) -> None:
    """Send ``frames`` hostile messages over connections in lock step; all are answered and nothing is left behind."""
    rng = np.random.default_rng(11)
    server = PolicyServer(LinearPolicy(), ServeConfig(port=0))
    with running(server) as port:
        message = wire_observation(rng)
        good = encode(message)
        url = f"ws://127.0.0.1:{port}"
        with connect(url, proxy=None, compression=None) as warm:
            warm.recv()
            warm.send(good)
            expected = decode(warm.recv())["actions"]
        files, threads = open_files(), threading.active_count()
        refused = 0
        for _ in range(10):
            with connect(url, proxy=None, compression=None) as raw:
                raw.recv()
                for _ in range(frames // 10):
                    raw.send(mutated(rng, good))
                    answer = raw.recv(timeout=10)
                    if isinstance(answer, str):
                        assert answer.startswith(("[invalid_frame ", "[invalid_observation "))
                        refused += 1
                    else:
                        assert decode(answer)["actions"].shape == (HORIZON, 3)
                raw.send(good)
                np.testing.assert_array_equal(decode(raw.recv())["actions"], expected)
        assert server.metrics.refused == refused > frames // 2
        settle(lambda: server._connections == 0 and open_files() <= files and threading.active_count() <= threads)


def settle(condition) -> None:
    """Wait for what closing connections leave to the event loop; fails if it never comes."""
    deadline = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < deadline, "connections, files or threads were left behind"
        time.sleep(0.02)


def test_thousands_of_hostile_messages_are_each_refused_and_nothing_leaks():
    bombard(5_000)


@pytest.mark.slow
def test_a_hundred_thousand_hostile_messages_are_each_refused_and_nothing_leaks():
    bombard(100_000)


def test_garbage_on_the_socket_before_and_after_the_upgrade_harms_nobody_else(server, client):
    rng = np.random.default_rng(12)
    files = open_files()
    for index in range(200):
        with socket.create_connection(("127.0.0.1", server.port), timeout=5) as raw:
            if index % 2:
                raw.sendall(UPGRADE)
                assert raw.recv(12) == b"HTTP/1.1 101"
            raw.sendall(rng.bytes(rng.integers(1, 2000)))
    settle(lambda: server._connections == 1 and open_files() <= files)
    assert client.infer(wire_observation(rng))["actions"].shape == (HORIZON, 3)
