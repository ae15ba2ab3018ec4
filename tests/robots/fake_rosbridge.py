"""A robot of two joints behind rosbridge: a real server that speaks the protocol, and moves as it is told."""

import base64
import io
import json
import threading
import time
from contextlib import suppress

import numpy as np
from PIL import Image
from websockets.exceptions import ConnectionClosed
from websockets.sync.server import serve

JOINTS = ["lift", "pan"]
PERIOD_S = 0.02
RED, BLUE = (250, 10, 10), (10, 10, 250)


class FakeRosbridge:
    """Publishes what is subscribed to, 50 times a second; obeys a Float64MultiArray or JointTrajectory of places."""

    def __init__(self, port=0):
        self.places = {"lift": 0.1, "pan": 0.2}
        self.operations = []
        self.commands = []
        self.mute = False
        self.encoding = "rgb8"
        self._server = serve(self._talk, "127.0.0.1", port, compression=None)
        self.port = self._server.socket.getsockname()[1]
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self):
        self._server.shutdown()

    def _talk(self, connection):
        topics = {}
        threading.Thread(target=self._publish, args=(connection, topics), daemon=True).start()
        with suppress(ConnectionClosed):
            for frame in connection:
                self._obey(connection, json.loads(frame), topics)

    def _obey(self, connection, message, topics):
        self.operations.append(message)
        match message["op"]:
            case "subscribe" if message["topic"].startswith("/unknown"):
                status = {"op": "status", "level": "error", "msg": f"cannot subscribe to {message['topic']}"}
                connection.send(json.dumps({**status, "id": message["id"]}))
            case "subscribe":
                topics[message["topic"]] = message["type"]
            case "publish" if message["topic"] == "/trajectory":
                for name, place in zip(
                    message["msg"]["joint_names"], message["msg"]["points"][0]["positions"], strict=True
                ):
                    self.places[name] = place
                self.commands.append(message["msg"])
            case "publish":
                self.places |= dict(zip(["pan", "lift"], message["msg"]["data"], strict=True))
                self.commands.append(message["msg"]["data"])

    def _publish(self, connection, topics):
        with suppress(ConnectionClosed):
            while True:
                time.sleep(PERIOD_S)
                for topic, kind in list(topics.items()):
                    if not self.mute:
                        connection.send(json.dumps({"op": "publish", "topic": topic, "msg": self._message(kind)}))

    def _message(self, kind):
        header = {"stamp": {"sec": 1, "nanosec": 5}, "frame_id": ""}
        match kind:
            case "sensor_msgs/msg/JointState":
                places = [self.places[name] for name in JOINTS]
                return {"header": header, "name": JOINTS, "position": places, "velocity": [0.0, 0.0], "effort": []}
            case "sensor_msgs/msg/Image":
                order = RED if self.encoding == "rgb8" else RED[::-1]
                rows = np.zeros((4, 20), np.uint8)  # 6 pixels of 3 bytes, and two bytes of padding
                rows[:, :18] = np.tile(order, 6)
                about = {"height": 4, "width": 6, "encoding": self.encoding, "is_bigendian": 0, "step": 20}
                return {"header": header, **about, "data": base64.b64encode(rows.tobytes()).decode()}
            case "sensor_msgs/msg/CompressedImage":
                buffer = io.BytesIO()
                Image.new("RGB", (64, 48), BLUE).save(buffer, "JPEG")
                return {"header": header, "format": "jpeg", "data": base64.b64encode(buffer.getvalue()).decode()}
        raise AssertionError(kind)
