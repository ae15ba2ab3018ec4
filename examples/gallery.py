"""The gallery: a clip of the scripted expert for every task and every long chain, and the page that shows them.

python examples/gallery.py                    # docs/gallery.md and docs/gallery/*.webp
python examples/gallery.py push drawer        # these alone, the others as they are
"""

import argparse
import inspect
from contextlib import closing
from pathlib import Path

import numpy as np
from jaxtyping import UInt8
from PIL import Image

from configs.environments import episode_seeds
from configs.filming import Studio
from configs.report.video import Video, animated_webp
from configs.worlds import EnvConfig
from envs.suites import SUITES, find_task
from envs.tasks import TASKS, Task
from policies.data.episode import Episode
from policies.showing.panels import View, views
from vla.durable import write_text_atomically, written_aside

SIZE_PX = 288
"""Side of the large view; the three small ones beside it are as high together."""
GAP_PX = 3
GAP_GREY = 255
MAX_FRAMES = 60
"""Of longer episodes only every second, third … frame is shown."""
FRAME_S = 0.1
"""For how long a frame is shown: short tasks run slowly, long ones fast."""
MAX_BYTES = 180_000
QUALITIES = (80, 70, 60, 50, 40, 30, 20)
ATTEMPTS = 10

INTRODUCTION = """# Gallery

Every task once, done by its scripted expert. Large: the front camera; beside it, from top to bottom, the wrist camera,
the front camera's depth (bright is near) and its segmentation (a colour for every geom).

`python examples/gallery.py` makes this page. `vla collect TASK --episodes 1 --render 1` films an episode at full size,
with everything that both cameras see.
"""
CHAINS = SUITES["tabletop-long"].task_names
CHAINS_INTRODUCTION = """# Chains

The suite `tabletop-long`: several of these tasks in one scene, one after the other.
"""
NAMES = (*TASKS, *CHAINS)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", default=NAMES)
    parser.add_argument("--docs", type=Path, default=Path(__file__).resolve().parents[1] / "docs")
    arguments = parser.parse_args()
    unknown = sorted(set(arguments.tasks) - set(NAMES))
    if unknown:
        parser.error(f"unknown tasks {unknown}; expected some of {', '.join(NAMES)}")
    page, folder = arguments.docs / "gallery.md", arguments.docs / "gallery"
    folder.mkdir(parents=True, exist_ok=True)
    sections = read_sections(page)
    for name in arguments.tasks:
        episode, rate_hz = performance(name)
        video, speed = clip(episode, rate_hz)
        webp = small_enough(video)
        with written_aside(folder / file_name(name)) as aside:
            aside.write_bytes(webp)
        sections[name] = section(find_task(name), episode, rate_hz, speed)
        write_text_atomically(page, assembled(sections))
        print(f"{name}: {len(episode)} steps, {len(webp) / 1000:.0f} kB", flush=True)


def read_sections(page: Path) -> dict[str, str]:
    """The page's sections by task; none where there is no page."""
    text = page.read_text(encoding="utf-8") if page.exists() else ""
    parts = [part.partition("\n# ")[0] for part in text.split("\n## ")[1:]]
    return {part.partition("\n")[0]: f"## {part.rstrip()}\n" for part in parts}


def assembled(sections: dict[str, str]) -> str:
    """The page: tasks, then chains."""
    tasks, chains = ([sections[name] for name in names if name in sections] for names in (TASKS, CHAINS))
    return "\n".join([INTRODUCTION, *tasks, *([CHAINS_INTRODUCTION, *chains] if chains else [])])


def file_name(task: str) -> str:
    return f"{task.replace('/', '-')}.webp"


def performance(task: str) -> tuple[Episode, float]:
    """The expert's first success, and the control rate; every task has seeds of its own."""
    studio = Studio(task, EnvConfig(image_size_px=SIZE_PX, profile="quality"))
    with closing(studio):
        for seed in episode_seeds(ATTEMPTS, first=ATTEMPTS * NAMES.index(task)):
            episode = studio.episode(seed)
            if episode.success:
                return episode, studio.embodiment.control_rate_hz
    raise RuntimeError(f"the expert of {task} failed on each of {ATTEMPTS} seeds")


def clip(episode: Episode, rate_hz: float) -> tuple[Video, float]:
    """The episode in at most ``MAX_FRAMES`` pictures, the last one among them, and the speed at which they run."""
    stride = -(-len(episode) // MAX_FRAMES)
    chosen = list(range(len(episode) - 1, -1, -stride))[::-1]
    (front, depth, segments), (wrist, *_) = views(episode)
    side_px = (SIZE_PX - 2 * GAP_PX) // 3
    frames = np.full((len(chosen), SIZE_PX, SIZE_PX + GAP_PX + side_px, 3), GAP_GREY, np.uint8)
    frames[:, :, :SIZE_PX] = front.colours(chosen)
    for row, view in enumerate((wrist, depth, segments)):
        top = row * (side_px + GAP_PX)
        frames[:, top : top + side_px, SIZE_PX + GAP_PX :] = reduced(view, chosen, side_px)
    video = Video(
        frames=frames,
        seconds_per_frame=FRAME_S,
        task=episode.task,
        instruction=episode.instruction,
        seed=episode.seed,
        success=episode.success,
    )
    return video, stride / rate_hz / FRAME_S


def reduced(view: View, frames: list[int], side_px: int) -> UInt8[np.ndarray, "k h w 3"]:
    """These frames of a view, made small; geoms keep their hard edges."""
    filter_ = Image.Resampling.NEAREST if view.kind == "segmentation" else Image.Resampling.LANCZOS
    small = [Image.fromarray(picture).resize((side_px, side_px), filter_) for picture in view.colours(frames)]
    return np.stack([np.asarray(picture) for picture in small])


def small_enough(video: Video) -> bytes:
    """The clip at the best quality within ``MAX_BYTES``, or at the lowest one."""
    webp = b""
    for quality in QUALITIES:
        webp = animated_webp(video, quality)
        if len(webp) <= MAX_BYTES:
            break
    return webp


def section(task: Task, episode: Episode, rate_hz: float, speed: float) -> str:
    """What the page says of a task: its clip and instruction, and what its docstrings say."""
    duration = f"{len(episode)} steps, {len(episode) / rate_hz:.1f} s"
    pace = "" if speed == 1 else f", shown at {speed:g} × its speed"
    about = f"{task.stages} stages" if task.name in CHAINS else description(task)
    return f"""## {task.name}

![{episode.instruction}](gallery/{file_name(task.name)})

“{episode.instruction}” (seed {episode.seed}, {duration}{pace})

{about}; at most {task.max_episode_steps} steps.
"""


def description(task: Task) -> str:
    """What a task's docstrings say, and its phrasings."""
    summary = (inspect.getdoc(type(task)) or "").partition("\n")[0]
    details = (inspect.getdoc(inspect.getmodule(type(task))) or "").partition("\n\n")[2]
    phrasings = task.phrasings
    words = f"{len(phrasings.train)} phrasings for training, {len(phrasings.held_out)} held out"
    return f"{summary}\n\n{details}\n\n{words}"


if __name__ == "__main__":
    main()
