"""Every wait ends: peers that freeze, dawdle, fall silent or never read, on real sockets on both sides."""

import signal
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress

import numpy as np
import pytest
from server_process import embodiment_seeing
from serving_fakes import EMBODIMENT, LinearPolicy, batched, observation, wire_observation
from websockets.exceptions import ConnectionClosed
from websockets.sync.client import connect
from websockets.sync.server import serve

from envs.specs import TASK_KEY
from policies.serving.client import ClientConfig, PolicyClient, ServerTimeoutError, ServerUnavailableError
from policies.serving.codec import encode
from policies.serving.config import ServeConfig
from policies.serving.control import ActionStream, WatchdogError
from policies.serving.keys import ObservationAdapter
from policies.serving.server import PolicyServer, running

UPGRADE = (
    b"GET / HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
    b"Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\nSec-WebSocket-Version: 13\r\n\r\n"
)
BIG_PX = 3000
NEVER_S = 600.0
"""A time-out that must not be the one which ends the wait."""
SOON_S = 90.0
"""After which a wait counts as endless."""


def soon(call, *arguments, **settings):
    """The result of ``call``, which must end by itself; a call that hangs fails the test."""
    result = []

    def run() -> None:
        try:
            result.append((call(*arguments, **settings), None))
        except Exception as error:
            result.append((None, error))

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(SOON_S)
    assert result, "the call hangs"
    value, error = result[0]
    if error is not None:
        raise error
    return value


def ends(raw: socket.socket) -> bool:
    """Whether the server ends the connection, whatever it says before."""
    raw.settimeout(SOON_S)
    try:
        while raw.recv(4096):
            pass
    except ConnectionResetError:
        pass
    except TimeoutError:
        return False
    return True


def settle(condition) -> None:
    deadline = time.monotonic() + SOON_S
    while not condition():
        assert time.monotonic() < deadline, "the server keeps the connection"
        time.sleep(0.02)


# ---- a server that freezes, dawdles or says nothing


@pytest.mark.parametrize("tls", [pytest.param(False, marks=pytest.mark.slow), True])
def test_a_frozen_server_cannot_block_the_sending_of_a_big_image(server_process, make_certificate, tls):
    certificate = make_certificate() if tls else ()
    process, port = server_process(BIG_PX, *certificate)
    url = f"{'wss' if tls else 'ws'}://127.0.0.1:{port}"
    config = ClientConfig(url=url, tls_ca=certificate[0] if tls else None, connect_timeout_s=SOON_S)
    client = PolicyClient(config)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(ServerUnavailableError, match=r"ended while a request was sent, for which it had 0\.\d+ s"):
        soon(client.infer, ObservationAdapter(client.embodiment).example(), timeout_s=0.3)
    soon(client.close)


def test_a_frozen_server_expires_the_watchdog_while_a_big_image_is_sent(server_process):
    process, port = server_process(BIG_PX)
    client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", connect_timeout_s=SOON_S, call_timeout_s=NEVER_S))
    stream = ActionStream(client, replan_interval=1, watchdog_s=0.3)
    process.send_signal(signal.SIGSTOP)
    with pytest.raises(WatchdogError, match="the policy server is gone"):
        soon(stream.step, ObservationAdapter(client.embodiment).example(), timeout_s=0.05)


def test_a_server_frozen_in_the_middle_of_a_request_is_a_timeout_and_its_late_answer_nobodys(server_process, rng):
    process, port = server_process(8)
    embodiment = embodiment_seeing(8)
    example = ObservationAdapter(embodiment).example()
    with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", connect_timeout_s=SOON_S)) as client:
        client.send({**example, TASK_KEY: "block 0.2"})
        process.send_signal(signal.SIGSTOP)
        with pytest.raises(ServerTimeoutError):
            soon(client.receive, 0.2)
        for _ in range(2):
            with pytest.raises(ServerTimeoutError):
                soon(client.infer, {**example, TASK_KEY: "never sent"}, timeout_s=0.2)
        process.send_signal(signal.SIGCONT)
        fresh = {**example, TASK_KEY: "the newest"}
        expected = LinearPolicy(embodiment).predict_chunk(batched([fresh]))[0].numpy()
        np.testing.assert_allclose(client.infer(fresh, timeout_s=SOON_S)["actions"], expected, rtol=1e-6)


@contextmanager
def trickle(port: int) -> Iterator[int]:
    """A way to ``port`` that carries little more than a handshake at once, and no image in any reasonable time."""
    with ExitStack() as scope:
        listener = scope.enter_context(socket.socket())
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        listener.bind(("127.0.0.1", 0))
        listener.listen()
        ended = threading.Event()

        def forward(source: socket.socket, sink: socket.socket, pause_s: float) -> None:
            with suppress(OSError):
                while not ended.wait(pause_s) and (data := source.recv(4096)):
                    sink.sendall(data)

        def carry() -> None:
            near, _ = listener.accept()
            far = socket.create_connection(("127.0.0.1", port))
            scope.callback(near.close)
            scope.callback(far.close)
            for source, sink, pause_s in ((near, far, 0.02), (far, near, 0.0)):
                threading.Thread(target=forward, args=(source, sink, pause_s), daemon=True).start()

        threading.Thread(target=carry, daemon=True).start()
        scope.callback(ended.set)
        yield listener.getsockname()[1]


def test_a_network_that_takes_a_request_bit_by_bit_does_not_prolong_the_call():
    with (
        running(PolicyServer(LinearPolicy(embodiment_seeing(BIG_PX)), ServeConfig(port=0))) as port,
        trickle(port) as way,
    ):
        client = PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{way}", connect_timeout_s=SOON_S))
        with pytest.raises(ServerUnavailableError, match="ended while a request was sent"):
            soon(client.infer, ObservationAdapter(client.embodiment).example(), timeout_s=0.5)


@pytest.mark.parametrize("scheme", ["ws", "wss"])
def test_a_port_that_accepts_and_says_nothing_is_a_timeout(scheme):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        config = ClientConfig(url=f"{scheme}://127.0.0.1:{silent.getsockname()[1]}", connect_timeout_s=0.3)
        with pytest.raises(ServerUnavailableError, match="timed out"):
            soon(PolicyClient, config)


def test_a_server_without_a_hello_is_a_timeout():
    with serve(lambda connection: connection.recv(), "127.0.0.1", 0) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        config = ClientConfig(url=f"ws://127.0.0.1:{server.socket.getsockname()[1]}", connect_timeout_s=0.3)
        with pytest.raises(ServerTimeoutError, match=r"within 0\.300 s"):
            soon(PolicyClient, config)
        server.shutdown()
        thread.join()


def test_an_answer_later_than_the_watchdog_is_never_obeyed(server_process):
    _, port = server_process(8)
    example = ObservationAdapter(embodiment_seeing(8)).example()
    with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", connect_timeout_s=SOON_S)) as client:
        stream = ActionStream(client, replan_interval=1, watchdog_s=0.2)
        with pytest.raises(WatchdogError):
            stream.step({**example, TASK_KEY: "block 0.5"}, timeout_s=0.2)
        time.sleep(1.0)
        with pytest.raises(WatchdogError):
            stream.step(example, timeout_s=0.2)


def test_a_request_interrupted_once_it_has_left_is_not_answered_by_its_own_late_reply(client, policy, rng, monkeypatch):
    send = client._socket.send

    def interrupted(frame: bytes) -> None:
        send(frame)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr(client._socket, "send", interrupted)
        with pytest.raises(KeyboardInterrupt):
            client.infer(observation(rng))
    fresh = observation(rng)
    expected = policy.predict_chunk(batched([fresh]))[0].numpy()
    np.testing.assert_allclose(client.infer(fresh)["actions"], expected, rtol=1e-6)


# ---- a client that says nothing, dawdles or never reads


@pytest.mark.parametrize("tls", [False, True])
def test_a_connection_that_never_opens_is_ended(policy, make_certificate, tls):
    cert, key = make_certificate() if tls else (None, None)
    config = ServeConfig(port=0, handshake_timeout_s=0.3, tls_cert=cert, tls_key=key)
    with running(PolicyServer(policy, config)) as port:
        for begin in (b"", UPGRADE[:20]):
            with socket.create_connection(("127.0.0.1", port)) as raw:
                raw.sendall(begin)
                assert ends(raw)


@pytest.mark.parametrize("begin", [b"", b"\x82\xff"])
def test_a_client_that_falls_silent_even_within_a_frame_is_ended(policy, begin):
    server = PolicyServer(policy, ServeConfig(port=0, ping_interval_s=0.2, handshake_timeout_s=2.0))
    with running(server) as port, socket.create_connection(("127.0.0.1", port)) as raw:
        raw.sendall(UPGRADE + begin)
        assert ends(raw)
        settle(lambda: server._connections == 0)


def test_a_message_that_never_gets_done_is_given_up_although_its_client_lives(policy, rng):
    server = PolicyServer(policy, ServeConfig(port=0, idle_timeout_s=0.5, ping_interval_s=0.1))
    data = encode(wire_observation(rng))

    def bit_by_bit() -> Iterator[bytes]:
        for index in range(int(SOON_S / 0.05)):
            yield data[index : index + 1]
            time.sleep(0.05)

    with running(server) as port, connect(f"ws://127.0.0.1:{port}", proxy=None) as raw:
        raw.recv()
        with pytest.raises(ConnectionClosed, match="idle for"):
            raw.send(bit_by_bit())


def test_a_client_that_never_reads_is_cut_off_and_hinders_nobody(rng):
    server = PolicyServer(LinearPolicy(horizon=50_000), ServeConfig(port=0, send_timeout_s=0.5))
    with running(server) as port, socket.socket() as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        raw.connect(("127.0.0.1", port))
        raw.sendall(UPGRADE)
        assert raw.recv(12) == b"HTTP/1.1 101"
        message = encode(wire_observation(rng))
        frame = b"\x82\xfe" + len(message).to_bytes(2, "big") + bytes(4) + message
        settle(lambda: server._connections == 1)
        with pytest.raises((ConnectionResetError, BrokenPipeError)):
            raw.settimeout(SOON_S)
            while True:
                raw.sendall(frame)
                time.sleep(0.01)
        settle(lambda: server._connections == 0)
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}"), expected=EMBODIMENT) as other:
            other.infer(observation(rng))


# ---- the end


@pytest.mark.parametrize("ending", [signal.SIGINT, pytest.param(signal.SIGTERM, marks=pytest.mark.slow)])
def test_a_server_whose_policy_never_returns_can_be_ended(server_process, ending):
    process, port = server_process(8)
    example = ObservationAdapter(embodiment_seeing(8)).example()
    with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", connect_timeout_s=SOON_S)) as client:
        client.send({**example, TASK_KEY: f"block {NEVER_S}"})
        with pytest.raises(ServerTimeoutError):
            client.receive(0.5)
        process.send_signal(ending)
        with pytest.raises(ServerUnavailableError, match="1001"):
            client.receive(SOON_S)
    assert process.wait(SOON_S) == 0
