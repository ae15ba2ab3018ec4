"""Look at a preset of perturbations: a PNG with a tile per axis, the same episode in all of them, both cameras.

python examples/perturbation_sheet.py colosseum-14 place docs/colosseum.png
python examples/perturbation_sheet.py libero-plus-7:camera pick camera.png --seed 3
"""

import argparse
import math
from pathlib import Path

import torch
from PIL import Image, ImageDraw

from envs.perturbations import Perturbation, axes
from envs.specs import TASK_KEY, image_key
from envs.vector import TaskEnv

SIZE_PX = 144
CAPTION_PX = 14


def tile(task: str, name: str, perturbation: Perturbation | None, seed: int) -> Image.Image:
    """The first observation of an episode, its cameras side by side under the axis' name and the instruction."""
    env = TaskEnv(task, 1, image_size_px=(SIZE_PX, SIZE_PX), perturbation=perturbation)
    observation = env.reset([seed])
    pictures = [observation[image_key(camera)][0] for camera in env.embodiment.camera_names]
    env.close()
    made = Image.new("RGB", (SIZE_PX * len(pictures), SIZE_PX + 2 * CAPTION_PX), "white")
    made.paste(Image.fromarray(torch.cat(pictures, 1).numpy()), (0, 2 * CAPTION_PX))
    ImageDraw.Draw(made).multiline_text((3, 1), f"{name}\n{observation[TASK_KEY][0]}", fill="black", spacing=2)
    return made


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("preset", help="a preset, or preset:axis")
    parser.add_argument("task")
    parser.add_argument("file", type=Path)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--columns", type=int, default=4)
    arguments = parser.parse_args()
    perturbations = {"none": None, **axes(arguments.preset)}
    tiles = [tile(arguments.task, name, each, arguments.seed) for name, each in perturbations.items()]
    width, height = tiles[0].size
    sheet = Image.new("RGB", (width * arguments.columns, height * math.ceil(len(tiles) / arguments.columns)), "white")
    for i, each in enumerate(tiles):
        sheet.paste(each, (i % arguments.columns * width, i // arguments.columns * height))
    sheet.save(arguments.file)
    print(f"{len(tiles)} tiles in {arguments.file}")


if __name__ == "__main__":
    main()
