"""The operator's page: who may open it, what it may say, and what it does to robots."""

import base64
import json
import socket
import struct
import time

import numpy as np
import pytest
from serving_fakes import EMBODIMENT, LinearPolicy, observation
from websockets.exceptions import ConnectionClosed, InvalidStatus
from websockets.sync.client import connect

from policies.serving.board import Board
from policies.serving.client import ClientConfig, PolicyClient, ServerRefusalError
from policies.serving.config import ServeConfig
from policies.serving.line import LINE_KEY, RobotLine
from policies.serving.operating import operate
from policies.serving.orders import Orders, OrdersError
from policies.serving.pages import PAGE_MESSAGE_BYTES
from policies.serving.server import PolicyServer, running

TOKEN = "a-token-of-the-servers-own"


@pytest.fixture
def paged(tmp_path):
    """A server with a page and a token."""
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    server = PolicyServer(LinearPolicy(), ServeConfig(port=0, page=True, token_file=file))
    with running(server):
        yield server, ClientConfig(url=f"ws://127.0.0.1:{server.port}", token_file=file)


def opened(server, token=TOKEN, host="127.0.0.1", **changes):
    """The page's socket as a browser opens it."""
    word = base64.urlsafe_b64encode(token.encode()).decode().rstrip("=")
    about = {"origin": f"http://{host}:{server.port}", "subprotocols": ["vla-page", f"token.{word}"], **changes}
    return connect(f"ws://{host}:{server.port}/page/socket", proxy=None, **about)


def get(port, path, host="127.0.0.1"):
    """Status and headers of a plain GET, and its body."""
    with socket.create_connection(("127.0.0.1", port)) as plain:
        plain.sendall(f"GET {path} HTTP/1.1\r\nHost: {host}:{port}\r\n\r\n".encode())
        answer = b"".join(iter(lambda: plain.recv(65536), b"")).decode()
    head, _, body = answer.partition("\r\n\r\n")
    return int(head.split()[1]), head, body


def heard(page, wanted, timeout_s=10.0):
    """The first state for which ``wanted(robots)`` holds."""
    end_s = time.monotonic() + timeout_s
    while time.monotonic() < end_s:
        frame = page.recv(timeout=timeout_s)
        if isinstance(frame, str) and (state := json.loads(frame))["type"] == "state":
            robots = list(state["robots"].values())
            if wanted(robots):
                return robots
    raise AssertionError("never")


def say(page, **message):
    page.send(json.dumps(message))


def test_the_files_are_there_whole_and_run_nothing_foreign(paged):
    server, _ = paged
    for path, kind in (("/page", "text/html"), ("/page/page.js", "text/javascript"), ("/page/page.css", "text/css")):
        status, head, body = get(server.port, path)
        assert status == 200 and f"Content-Type: {kind}" in head and "default-src 'none'" in head
        assert "//cdn" not in body and "https://" not in body
    assert TOKEN not in get(server.port, "/page")[2]
    assert get(server.port, "/page/nothing")[0] == 404
    assert get(server.port, "/page/../server.py")[0] == 404


def test_without_a_page_there_is_none():
    with running(PolicyServer(LinearPolicy(), ServeConfig(port=0))) as port:
        assert get(port, "/page")[0] == 404
        with PolicyClient(ClientConfig(url=f"ws://127.0.0.1:{port}")) as client:
            assert LINE_KEY not in client.metadata


def test_a_server_without_a_token_makes_one_for_its_page():
    server = PolicyServer(LinearPolicy(), ServeConfig(port=0, page=True))
    with running(server):
        assert server.pages.url("127.0.0.1", server.port).endswith(f"/page#token={server.pages.token}")
        with pytest.raises(InvalidStatus, match="401"):
            opened(server).__enter__()
        with opened(server, server.pages.token) as page:
            assert json.loads(page.recv())["type"] == "hello"


@pytest.mark.parametrize(
    ("changes", "status"),
    [
        ({"subprotocols": ["vla-page"]}, "401"),
        ({"subprotocols": None}, "401"),
        ({"token": "another-token-that-is-wrong"}, "401"),
        ({"origin": "http://evil.example"}, "403"),
        ({"origin": None}, "403"),
        ({"origin": "null"}, "403"),
    ],
)
def test_nobody_else_opens_the_socket(paged, changes, status):
    with pytest.raises(InvalidStatus, match=status), opened(paged[0], **changes):
        pass


def test_a_foreign_name_that_leads_here_is_refused(paged):
    assert get(paged[0].port, "/page", "evil.example")[0] == 403
    assert get(paged[0].port, "/page", "localhost")[0] == 200


def own_address():
    """An address of this machine that is not its loopback, or None."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as asking:
        try:
            asking.connect(("192.0.2.1", 9))  # sends nothing
        except OSError:
            return None
        address = asking.getsockname()[0]
    return None if address.startswith("127.") else address


def test_pages_are_for_this_machine_alone(tmp_path):
    if (address := own_address()) is None:
        pytest.skip("this machine has no address but its loopback")
    file = tmp_path / "token"
    file.write_text(TOKEN, encoding="utf-8")
    with running(PolicyServer(LinearPolicy(), ServeConfig(host="0.0.0.0", port=0, page=True, token_file=file))) as port:
        with socket.create_connection((address, port)) as plain:
            plain.sendall(f"GET /page HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\n\r\n".encode())
            assert b" 403 " in plain.recv(100)
        with PolicyClient(ClientConfig(url=f"ws://{address}:{port}", token_file=file)) as client:
            assert client.horizon  # robots may come from elsewhere


def test_robots_doors_stay_closed_to_pages_and_strangers(paged):
    server, config = paged
    for path in ("/", "/line?robot=x"):
        with pytest.raises(InvalidStatus, match="401"):
            connect(f"ws://127.0.0.1:{server.port}{path}", proxy=None).__enter__()
        with pytest.raises(InvalidStatus, match="403"):
            connect(f"ws://127.0.0.1:{server.port}{path}", origin="http://evil.example", proxy=None).__enter__()
    header = {"Authorization": f"Api-Key {TOKEN}"}
    with pytest.raises(InvalidStatus, match="404"):
        connect(f"ws://127.0.0.1:{server.port}/line?robot=x", additional_headers=header, proxy=None).__enter__()
    with PolicyClient(config) as client:
        name = client.metadata[LINE_KEY]
        line = RobotLine(config, name, EMBODIMENT.action_dim)
        with pytest.raises(Exception, match="404"):  # it has one already
            RobotLine(config, name, EMBODIMENT.action_dim)
        line.close()


@pytest.mark.parametrize(
    "message",
    [
        "x" * (PAGE_MESSAGE_BYTES + 1),
        b"\x00\x01",
        "{",
        "[" * 3000,
        "[]",
        '{"type": "fire", "robot": "ROBOT"}',
        '{"type": "steer", "robot": "ROBOT", "axes": [1, 2]}',
        '{"type": "steer", "robot": "ROBOT", "axes": [1, 2, 0]}',
        '{"type": "steer", "robot": "ROBOT", "axes": [NaN, 0, 0]}',
        '{"type": "instruct", "robot": "ROBOT", "text": 5}',
        '{"type": "instruct", "robot": "ROBOT", "text": "a\\nb"}',
        '{"type": "episode", "robot": "ROBOT", "order": ["start"]}',
    ],
)
def test_what_no_page_of_ours_says_ends_the_connection(paged, message):
    server, config = paged
    with PolicyClient(config) as client, opened(server) as page:
        if isinstance(message, str):
            message = message.replace("ROBOT", client.metadata[LINE_KEY])
        page.send(message)
        with pytest.raises(ConnectionClosed) as closed:
            while True:
                page.recv(timeout=10)
        assert closed.value.rcvd.code in (1008, 1009)
        client.infer(observation(np.random.default_rng(0)))  # robots do not notice


def test_a_robot_without_a_line_is_watched_told_and_stopped(paged, rng):
    server, config = paged
    with PolicyClient(config) as client, opened(server) as page:
        name, seen = client.metadata[LINE_KEY], observation(rng)
        mine = client.infer(seen)["actions"]
        (robot,) = heard(page, lambda robots: robots and robots[0]["requests"] == 1)
        assert (robot["instruction"], robot["line"], robot["mode"]) == (seen["task"], False, "policy")
        np.testing.assert_allclose(robot["chunk"], mine, atol=1e-5)
        assert robot["latency_ms"]["p50"] > 0
        say(page, type="take", robot=name)
        say(page, type="instruct", robot=name, text="something much longer than it was before")
        (robot,) = heard(page, lambda robots: robots[0]["instruction"].startswith("something"))
        assert robot["mode"] == "policy"  # nobody can steer it
        assert np.abs(client.infer(seen)["actions"] - mine).max() > 1e-4
        say(page, type="instruct", robot=name, text="")
        say(page, type="stop", robot=name)
        heard(page, lambda robots: robots[0]["mode"] == "held")
        with pytest.raises(ServerRefusalError, match="held"):
            client.infer(seen)
        say(page, type="release", robot=name)
        heard(page, lambda robots: robots[0]["mode"] == "policy")
        np.testing.assert_array_equal(client.infer(seen)["actions"], mine)


def test_a_robot_that_was_stopped_comes_back_held_until_it_is_released(paged, rng):
    server, config = paged
    board = server.pages.board
    with opened(server) as page:
        with PolicyClient(config) as client:
            say(page, type="instruct", robot=client.metadata[LINE_KEY], text="go home")
            say(page, type="stop", robot=client.metadata[LINE_KEY])
            until(lambda: [robot.mode for robot in board.robots.values()] == ["held"])
        for _ in range(2):  # as a loop that connects anew after each error
            until(lambda: not board.robots and board.holds == {"127.0.0.1": "go home"})
            with PolicyClient(config) as client:
                with pytest.raises(ServerRefusalError, match="held"):
                    client.infer(observation(rng))
                (robot,) = heard(page, bool)
                assert (robot["mode"], robot["came_held"], robot["instruction"]) == ("held", True, "go home")
        with PolicyClient(config) as client:
            say(page, type="release", robot=client.metadata[LINE_KEY])
            (robot,) = heard(page, lambda robots: robots and robots[0]["mode"] == "policy")
            assert not robot["came_held"] and not board.holds
            client.infer(observation(rng))
        until(lambda: not board.robots)
        with PolicyClient(config) as client:
            client.infer(observation(rng))
            (robot,) = board.robots.values()
            assert robot.override is None


def test_a_release_of_another_robot_releases_none_that_has_left():
    board = Board(EMBODIMENT)
    gone, here = board.join("a"), board.join("a")
    gone.hold()
    here.hold()
    board.leave(gone)
    operate(board, "page", json.dumps({"type": "release", "robot": here.name}))
    back, elsewhere = board.join("a"), board.join("b")
    assert (here.mode, back.mode, elsewhere.mode) == ("policy", "held", "policy")


def test_an_address_is_released_and_those_that_a_person_steers_are_left_to_him():
    board = Board(EMBODIMENT)
    gone = board.join("a")
    gone.mode = "human"
    board.leave(gone)
    steered, back = board.join("a"), board.join("a")
    stopped = board.join("b")
    stopped.hold()
    steered.mode, steered.pilot = "human", "page"
    operate(board, "page", json.dumps({"type": "free", "address": "a"}))
    assert (steered.mode, back.mode, stopped.mode) == ("human", "policy", "held")
    assert board.join("a").mode == "policy"


def test_pictures_come_as_they_are(paged, rng):
    server, config = paged
    with PolicyClient(config) as client, opened(server) as page:
        seen = observation(rng)
        client.infer(seen)
        pictures = {}
        while len(pictures) < 2:
            frame = page.recv(timeout=10)
            if isinstance(frame, bytes):
                (size,) = struct.unpack_from("<I", frame)
                head = json.loads(frame[4 : 4 + size])
                shape = head["height"], head["width"], 3
                pictures[head["camera"]] = np.frombuffer(frame, np.uint8, offset=4 + size).reshape(shape)
        for name, picture in pictures.items():
            np.testing.assert_array_equal(picture, seen[f"observation.images.{name}"])


def until(true, timeout_s=10.0):
    end_s = time.monotonic() + timeout_s
    while not true():
        assert time.monotonic() < end_s
        time.sleep(0.01)


def test_a_robot_on_a_line_obeys_a_hand_until_it_leaves_the_keys(paged):
    server, config = paged
    with PolicyClient(config) as client, opened(server) as page:
        name = client.metadata[LINE_KEY]
        line = RobotLine(config, name, EMBODIMENT.action_dim)
        until(lambda: line.orders.mode == "policy")
        say(page, type="take", robot=name)
        for _ in range(5):
            say(page, type="alive", visible=True)
            say(page, type="steer", robot=name, axes=[1, -0.5, 0])
            time.sleep(0.05)
        until(lambda: line.orders.axes == (1.0, -0.5, 0.0), 0.5)
        assert (line.orders.mode, line.orders.attended) == ("human", True)
        with opened(server) as other:  # another page may stop it, and not steer it
            other_mode = lambda: [say(other, type="steer", robot=name, axes=[0, 0, 1]), line.orders.axes][1]  # noqa: E731
            assert other_mode() == (1.0, -0.5, 0.0)
        until(lambda: line.orders.mode == "held")  # the hand said nothing more
        say(page, type="episode", robot=name, order="success")
        until(lambda: line.orders.episode_number == 1)
        assert line.orders.episode == "success"
        line.close()


def test_a_page_that_closes_leaves_what_it_steered_held_and_nobody_there(paged):
    server, config = paged
    with PolicyClient(config) as client:
        line = RobotLine(config, client.metadata[LINE_KEY], EMBODIMENT.action_dim)
        with opened(server) as page:
            say(page, type="take", robot=client.metadata[LINE_KEY])
            until(lambda: line.orders.mode == "human")
        until(lambda: line.orders.mode == "held" and not line.orders.attended)
        line.close()


@pytest.mark.parametrize("away", [{"visible": False}, {}, {"visible": 1}])
def test_nobody_attends_to_a_page_that_is_hidden(paged, away):
    server, config = paged
    with PolicyClient(config) as client, opened(server) as page:
        line = RobotLine(config, name := client.metadata[LINE_KEY], EMBODIMENT.action_dim)
        until(lambda: line.orders.mode == "policy")
        until(lambda: [say(page, type="alive", visible=True), line.orders.attended][1])
        say(page, type="alive", **away)
        say(page, type="stop", robot=name)
        until(lambda: line.orders.mode == "held")
        assert list(server.pages.board.pages.values()) == [-np.inf]  # at once, and no other word is a sign of life
        until(lambda: not line.orders.attended)
        line.close()


def test_a_line_that_falls_silent_means_hold():
    server = PolicyServer(LinearPolicy(), ServeConfig(port=0, page=True))
    with running(server) as port:
        config = ClientConfig(url=f"ws://127.0.0.1:{port}")
        client = PolicyClient(config)
        line = RobotLine(config, client.metadata[LINE_KEY], EMBODIMENT.action_dim)
        until(lambda: line.orders.mode == "policy")
        server.stop()
        until(lambda: line.silent)
        assert (line.orders.mode, line.orders.attended) == ("held", False)
        line.close()
        client.close()


@pytest.mark.parametrize(
    "text", ["", "[]", '{"mode": "fly"}', '{"axes": [2, 0]}', '{"attended": 1}', '{"episode_number": true}', '{"x": 1}']
)
def test_orders_that_are_none_are_refused(text):
    with pytest.raises(OrdersError):
        Orders.from_json(text, 2)
    whole = Orders(mode="human", axes=(0.5, -1.0), instruction="go", episode="start", episode_number=3)
    assert Orders.from_json(whole.to_json(), 2) == whole
