"""A robot's side of a policy server: needs numpy, msgpack and websockets, no torch.

    vla serve outputs/quickstart/latest/train      # in another terminal
    python examples/robot_client.py --instruction "pick up the red cube"

Replace ``read_sensors`` and ``move`` with your robot's. The loop runs at the embodiment's control rate, asks for a new
chunk of actions when the last is used up, holds while an answer is late, and stops when the server stays silent.
"""

import argparse
import time

import numpy as np

from envs.specs import TASK_KEY, EmbodimentSpec
from policies.serving.client import ClientConfig, PolicyClient
from policies.serving.control import ActionStream, WatchdogError
from policies.serving.keys import ObservationAdapter


def read_sensors(embodiment: EmbodimentSpec, instruction: str) -> dict:
    """Stands for the robot: an observation of the right shapes, all black and at rest."""
    return {**ObservationAdapter(embodiment).example(), TASK_KEY: instruction}


def move(action: np.ndarray) -> None:
    """Stands for the robot: hand the action to its controller."""
    print(np.array2string(action, precision=3, suppress_small=True))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--url", default="ws://127.0.0.1:8000")
    parser.add_argument("--instruction", default="pick up the red cube")
    parser.add_argument("--steps", type=int, default=40)
    arguments = parser.parse_args()
    with PolicyClient(ClientConfig(url=arguments.url)) as client:
        period_s = 1 / client.embodiment.control_rate_hz
        stream = ActionStream(client, client.replan_interval)
        due = time.monotonic()
        for _ in range(arguments.steps):
            due += period_s
            observation = read_sensors(client.embodiment, arguments.instruction)
            try:
                move(stream.step(observation, timeout_s=max(0.0, due - time.monotonic())).action)
            except WatchdogError as silence:
                print(f"stopping the robot: {silence}")
                break
            time.sleep(max(0.0, due - time.monotonic()))


if __name__ == "__main__":
    main()
