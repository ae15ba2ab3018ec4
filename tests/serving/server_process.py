"""A policy server as a process of its own: ``python server_process.py IMAGE_PX [CERT KEY]`` prints its port and serves.

An instruction ``block S`` takes the policy S seconds. The camera's images are IMAGE_PX x IMAGE_PX.
"""

import asyncio
import dataclasses
import signal
import sys
import threading
import time
from pathlib import Path

from serving_fakes import EMBODIMENT, LinearPolicy

from envs.specs import TASK_KEY, EmbodimentSpec
from policies.serving.config import ServeConfig
from policies.serving.server import PolicyServer


class SleepingPolicy(LinearPolicy):
    def predict_chunk(self, observation):
        for text in observation[TASK_KEY]:
            if text.startswith("block "):
                time.sleep(float(text.removeprefix("block ")))
        return super().predict_chunk(observation)


def embodiment_seeing(image_px: int) -> EmbodimentSpec:
    camera = dataclasses.replace(EMBODIMENT.cameras[0], height_px=image_px, width_px=image_px, depth=False)
    return dataclasses.replace(EMBODIMENT, cameras=(camera,))


def main() -> None:
    signal.signal(
        signal.SIGINT, signal.default_int_handler
    )  # programs begun in the background inherit that it is ignored
    cert, key = (Path(sys.argv[2]), Path(sys.argv[3])) if len(sys.argv) > 2 else (None, None)
    policy = SleepingPolicy(embodiment_seeing(int(sys.argv[1])))
    server = PolicyServer(policy, ServeConfig(port=0, tls_cert=cert, tls_key=key))
    started = threading.Event()
    threading.Thread(target=lambda: (started.wait(), print(server.port, flush=True)), daemon=True).start()
    try:
        asyncio.run(server.serve_until_told(started))
    except KeyboardInterrupt:
        print("stopped", flush=True)


if __name__ == "__main__":
    main()
