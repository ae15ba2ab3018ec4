"""Film a policy: an animated WebP of one episode, both cameras side by side.

python examples/rollout_picture.py expert place docs/rollout.webp
python examples/rollout_picture.py outputs/quickstart/latest/train place film.webp --seed 3
"""

import argparse
from pathlib import Path

import torch
from PIL import Image

from configs.acting import Actor
from configs.worlds import EnvConfig
from envs.specs import TASK_KEY, image_key
from envs.vector import TaskEnv
from envs.world import QUALITY
from policies.execution import Execution


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("policy", help="a run's folder, a policy server's address, or expert")
    parser.add_argument("task")
    parser.add_argument("path", type=Path)
    parser.add_argument("--seed", type=int, default=0, help="of the stream evaluate")
    parser.add_argument("--size-px", type=int, default=192)
    arguments = parser.parse_args()

    env, policy = Actor(arguments.policy, EnvConfig()).enter(arguments.task, 1, "held_out")
    # The film is shot by a second simulator in step with the first, so that the policy sees what it was trained on.
    size = (arguments.size_px, arguments.size_px)
    studio = TaskEnv(arguments.task, 1, image_size_px=size, stream=env.stream, split=env.split, profile=QUALITY)
    observation, shot = env.reset([arguments.seed]), studio.reset([arguments.seed])
    execution = Execution(policy, 1)
    frames, moved = [frame(shot)], None
    while moved is None or not moved.ended:
        action = execution.act(observation)
        moved = env.step(action)
        frames.append(frame(studio.step(action).observation))
        observation = moved.observation
    frames += [frames[-1]] * 10
    print(f"{observation[TASK_KEY][0]!r}: {'success' if bool(moved.success) else 'failure'}, {len(frames)} frames")
    arguments.path.parent.mkdir(parents=True, exist_ok=True)
    duration_ms = round(1000 / env.embodiment.control_rate_hz)
    frames[0].save(arguments.path, save_all=True, append_images=frames[1:], duration=duration_ms, loop=0, quality=70)
    env.close()
    studio.close()


def frame(observation: dict) -> Image.Image:
    """Front and wrist camera, side by side."""
    views = [observation[image_key(camera)][0] for camera in ("front", "wrist")]
    return Image.fromarray(torch.cat(views, dim=1).numpy())


if __name__ == "__main__":
    main()
