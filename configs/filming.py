"""Episodes filmed for people: an mp4 and a contact sheet each, of recorded episodes or of the expert's."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from configs.environments import make_env
from configs.worlds import EnvConfig

if TYPE_CHECKING:
    from policies.collect import ExecutionNoise
    from policies.data.episode import Episode


RENDERS = "renders"
"""The folder of a dataset that holds its films."""


@dataclass(frozen=True, kw_only=True)
class Film:
    """The files that show one episode."""

    video: Path
    sheet: Path

    @classmethod
    def named(cls, folder: Path, name: str) -> "Film":
        """Films of ``name`` in ``folder``, a slash in it made a hyphen."""
        name = name.replace("/", "-")
        return cls(video=folder / f"{name}.mp4", sheet=folder / f"{name}.png")

    def __str__(self) -> str:
        return f"{self.video} and {self.sheet.name}"

    def exists(self) -> bool:
        return self.video.exists() and self.sheet.exists()


def film_episode(episode: "Episode", film: Film, rate_hz: float, sheet_frames: int = 8) -> None:
    """Write the two files, each whole or not at all, with their folder."""
    from PIL import Image

    from policies.showing.film import write_mp4
    from policies.showing.panels import contact_sheet, panels
    from vla.durable import written_aside

    film.video.parent.mkdir(parents=True, exist_ok=True)
    write_mp4(film.video, panels(episode, rate_hz), rate_hz)
    with written_aside(film.sheet) as aside:
        Image.fromarray(contact_sheet(episode, rate_hz, sheet_frames)).save(aside, format="PNG")


class Studio:
    """One world of ``task`` with RGB, depth and segmentation in every camera, where the expert demonstrates.

    Its episodes are those of the stream ``demonstrate``; the arm starts up to ``arm_start_rad`` from home.
    """

    def __init__(self, task: str, config: EnvConfig, arm_start_rad: float = 0.0) -> None:
        from envs.specs import ACTION_KEY, STATE_KEY, depth_key, image_key, segmentation_key
        from policies.expert import ExpertPolicy

        seeing = replace(config, depth=True, segmentation=True)
        self._env = make_env(task, 1, stream="demonstrate", config=seeing, arm_start_rad=arm_start_rad)
        self._expert = ExpertPolicy(self._env)
        self.embodiment = self._env.embodiment
        views = (image_key, depth_key, segmentation_key)
        self._keys = [key(name) for name in self.embodiment.camera_names for key in views] + [STATE_KEY, ACTION_KEY]

    def episode(self, seed: int, noise: "ExecutionNoise | None" = None) -> "Episode":
        """The episode that a recording with this seed and noise holds: cameras change nothing that moves."""
        from policies.collect import ExecutionNoise, record_episodes

        return record_episodes(self._env, self._expert, [seed], self._keys, noise=noise or ExecutionNoise())[0]

    def close(self) -> None:
        """Free threads and GL contexts; safe to call twice."""
        self._env.close()
