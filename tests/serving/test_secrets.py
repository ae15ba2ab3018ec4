"""What crosses the network in clear text, what TLS says when it does not fit, and where a token must never show."""

import json
import logging
import socket
import ssl
import threading
from http import HTTPStatus
from pathlib import Path

import pytest
from serving_fakes import observation
from websockets.datastructures import Headers
from websockets.http11 import Response
from websockets.sync.server import serve

from configs.machine import describe_run
from configs.serialization import to_json
from policies.serving.client import ClientConfig, PolicyClient, ServerUnavailableError
from policies.serving.config import ServeConfig, ServeError
from policies.serving.server import PolicyServer, running
from policies.serving.tls import client_context, server_context

TOKEN = "a-token-of-sufficient-length"


def own_address() -> str:
    """An address of this machine that is not its loopback."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as probe:
        try:
            probe.connect(("192.0.2.1", 9))  # sends nothing: it only asks for the route
        except OSError:
            pytest.skip("this machine has its loopback only")
        address = probe.getsockname()[0]
    if address.startswith("127."):
        pytest.skip("this machine has its loopback only")
    return address


def warnings_of(caplog) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


def test_both_sides_warn_of_a_token_in_clear_text_beyond_this_machine(policy, monkeypatch, caplog):
    monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    address = own_address()
    with running(PolicyServer(policy, ServeConfig(host="0.0.0.0", port=0))) as port:
        assert any("no TLS: the token" in text for text in warnings_of(caplog))
        caplog.clear()
        PolicyClient(ClientConfig(url=f"ws://{address}:{port}")).close()
        assert any(f"the token and all observations go to {address} in clear text" in t for t in warnings_of(caplog))


def test_nobody_warns_on_this_machine_or_with_tls(policy, monkeypatch, caplog, make_certificate):
    monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    with running(PolicyServer(policy, ServeConfig(port=0))) as port:
        PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")).close()
        PolicyClient(ClientConfig(url=f"ws://localhost:{port}")).close()
    address = own_address()
    cert, key = make_certificate(f"IP:{address}")
    with running(PolicyServer(policy, ServeConfig(host="0.0.0.0", port=0, tls_cert=cert, tls_key=key))) as port:
        PolicyClient(ClientConfig(url=f"wss://{address}:{port}", tls_ca=cert)).close()
    assert warnings_of(caplog) == []


@pytest.mark.parametrize("source", ["file", "variable"])
def test_the_token_shows_in_no_log_text_or_saved_config(policy, rng, monkeypatch, tmp_path, caplog, source):
    file = None
    if source == "file":
        file = tmp_path / "token"
        file.write_text(TOKEN)
    else:
        monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    served, asked = ServeConfig(port=0, token_file=file), ClientConfig(token_file=file)
    with caplog.at_level(logging.DEBUG), running(PolicyServer(policy, served)) as port:
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", token_file=file)) as client:
            client.infer(observation(rng))
        wrong = tmp_path / "wrong"
        wrong.write_text("another-token-of-some-length")
        with pytest.raises(ServerUnavailableError, match="401") as refusal:
            PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}", token_file=wrong))
    shown = [caplog.text, str(refusal.value), repr(client), repr(served), repr(asked)]
    shown += [json.dumps(to_json(config)) for config in (served, asked)] + [json.dumps(describe_run())]
    assert not [text for text in shown if TOKEN in text or "another-token" in text]


def test_a_redirect_does_not_carry_the_token_elsewhere(monkeypatch):
    monkeypatch.setenv("VLA_SERVE_TOKEN", TOKEN)
    headers = Headers({"Location": "ws://127.0.0.1:1/"})
    response = Response(HTTPStatus.FOUND.value, "Found", headers, b"")
    with serve(lambda _: None, "127.0.0.1", 0, process_request=lambda *_: response) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        with pytest.raises(ServerUnavailableError, match="cannot follow redirect"):
            PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{server.socket.getsockname()[1]}"))
        server.shutdown()
        thread.join()


def test_tls_with_a_certificate_of_ones_own_and_what_is_said_where_it_does_not_fit(policy, rng, make_certificate):
    cert, key = make_certificate()
    another, _ = make_certificate()
    with running(PolicyServer(policy, ServeConfig(port=0, tls_cert=cert, tls_key=key))) as port:
        secure, plain = f"wss://127.0.0.1:{port}", f"ws://127.0.0.1:{port}"
        with PolicyClient(ClientConfig(url=secure, tls_ca=cert, connect_timeout_s=60)) as client:
            client.infer(observation(rng))
        for config, says in (
            (
                ClientConfig(url=secure, connect_timeout_s=60),
                "CERTIFICATE_VERIFY_FAILED.*the system's authorities did not sign.*tls_ca",
            ),
            (
                ClientConfig(url=secure, tls_ca=another, connect_timeout_s=60),
                f"the authority in {another} did not sign its certificate",
            ),
            (ClientConfig(url=plain, connect_timeout_s=60), "if it uses TLS, the url must begin with wss:"),
        ):
            with pytest.raises(ServerUnavailableError, match=says):
                PolicyClient(config)


def test_what_tls_itself_sends_beside_the_first_words_hangs_nobody(policy, rng, make_certificate, monkeypatch):
    """A server of a hundred session tickets left one connection in seven waiting for ever, when threads shared it."""
    cert, key = make_certificate()

    def with_tickets(*files):
        context = server_context(*files)
        context.num_tickets = 100
        return context

    monkeypatch.setattr("policies.serving.config.server_context", with_tickets)
    with running(PolicyServer(policy, ServeConfig(port=0, tls_cert=cert, tls_key=key))) as port:
        for _ in range(25):
            with PolicyClient(ClientConfig(url=f"wss://127.0.0.1:{port}", tls_ca=cert)) as client:
                client.infer(observation(rng))


def test_waits_for_tls_end_in_time_and_with_the_socket(make_certificate):
    cert, key = make_certificate()
    listener = socket.create_server(("127.0.0.1", 0))
    thread = threading.Thread(
        target=lambda: held.append(server_context(cert, key).wrap_socket(listener.accept()[0], True))
    )
    held: list[ssl.SSLSocket] = []
    thread.start()
    ours = client_context(cert).wrap_socket(
        socket.create_connection(listener.getsockname()), server_hostname="127.0.0.1"
    )
    thread.join()
    ours.settimeout(0.05)
    assert ours.gettimeout() == 0.05
    with pytest.raises(TimeoutError):
        ours.recv(10)
    with pytest.raises(TimeoutError):  # nobody reads it
        ours.sendall(bytes(100_000_000))
    ours.settimeout(None)
    ended: list[object] = []

    def receive() -> None:
        try:
            ended.append(ours.recv(10))
        except OSError as error:
            ended.append(error)

    thread = threading.Thread(target=receive)
    thread.start()
    ours.close()
    thread.join(30)
    assert len(ended) == 1
    held[0].close()
    listener.close()


def test_a_certificate_of_another_name_and_a_server_without_tls_are_told_apart(policy, server, make_certificate):
    cert, key = make_certificate("DNS:robot.example")
    elsewhere = PolicyServer(policy, ServeConfig(port=0, tls_cert=cert, tls_key=key))
    with running(elsewhere) as port, pytest.raises(ServerUnavailableError, match="is for another host name"):
        PolicyClient(ClientConfig(url=f"wss://127.0.0.1:{port}", tls_ca=cert))
    with pytest.raises(ServerUnavailableError, match="if it does not use TLS, the url must begin with ws:"):
        PolicyClient(ClientConfig(url=f"wss://127.0.0.1:{server.port}", tls_ca=cert))


@pytest.mark.parametrize(
    ("settings", "says"),
    [
        ({"tls_ca": Path("ca.pem")}, "tls_ca is for TLS, which ws://127.0.0.1:8000 does not use"),
        ({"url": "wss://h", "tls_ca": Path("none.pem")}, "cannot load tls_ca none.pem"),
        ({"url": "wss://h", "tls_ca": Path(__file__)}, "cannot load tls_ca .*test_secrets.py"),
        ({"url": "ws://robot:secret@127.0.0.1:8000"}, "url must hold no user or password"),
        ({"connect_timeout_s": 0.0}, "connect_timeout_s must be positive and finite, got 0.0"),
        ({"call_timeout_s": float("inf")}, "call_timeout_s must be positive and finite, got inf"),
        ({"wait_s": float("nan")}, "wait_s must be at least 0 and finite, got nan"),
        ({"max_message_bytes": 0}, "max_message_bytes must be positive"),
    ],
)
def test_client_settings_that_cannot_work_or_void_each_other_are_named(settings, says):
    with pytest.raises(ServeError, match=says) as error:
        PolicyClient(ClientConfig(**settings))
    assert "secret" not in str(error.value).replace("test_secrets", "")
