"""Show where a network that has learned to look sees a phrase: vla ground "the red cube" FRONT.png WRIST.png.

The pictures are those of its cameras, in their order, or one alone, of --camera. Each phrase, --also names more, is a
row of the sheet: the heatmap lights up the picture, the blue cross is its middle. With all views and the robot's
--state it also says the place in the world. Pictures of another shape are squeezed to the network's.

vla ground --scene 7 takes a rendered table that was never learned from, with sentences of its own, and shows the truth
beside the answer: an outline and a white cross.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import tyro

from configs.machine import check_output_file
from configs.pretraining import SceneConfig, make_source
from configs.run_directory import OUTPUTS, create_run_directory
from policies.pretraining.config import HELD_OUT_SEEDS

if TYPE_CHECKING:
    from jaxtyping import UInt8
    from torch import Tensor

    from envs.specs import Grounding
    from policies.looking import Looker, Sighting
    from vla.base import Base

SHEET_FILE = "ground.png"
SENTENCES = 4
"""How many a rendered table is given at most."""
SHOWN_PX = 480
"""The longest side of a picture on the sheet."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to look for, where, and with which network."""

    phrase: Annotated[str, tyro.conf.Positional] = ""
    """What to look for; a rendered table has sentences of its own."""
    images: Annotated[tuple[Path, ...], tyro.conf.Positional] = ()
    """Pictures (png, jpg), one for each of the network's cameras in their order, or one alone."""
    also: tuple[str, ...] = ()
    """Further phrases."""
    backbone: Literal["shipped"] | Path = "shipped"
    """A run of vla pretrain, or a backbone in it; shipped is the package's own."""
    camera: str | None = None
    """Whose picture it is, where it is one alone; by default the first camera's."""
    state: tuple[float, ...] = ()
    """The robot's state when the pictures were taken, in its own units: then the place in the world is told, too."""
    scene: int | None = None
    """Instead of pictures, the rendered table of this seed."""
    scenes: SceneConfig = field(default_factory=SceneConfig)
    """Which tables are rendered."""
    out: Path | None = None
    """The sheet's file; by default ground.png in a new run directory."""
    outputs: Path = OUTPUTS
    """Folder that holds the runs."""

    def __post_init__(self) -> None:
        if (self.scene is None) == (not self.images):
            seed = "no seed" if self.scene is None else f"the seed {self.scene}"
            raise ValueError(
                "name a phrase and pictures to look at, or a rendered table's seed (--scene 7); got "
                f"{len(self.images)} pictures and {seed}"
            )
        if self.scene is not None and (self.camera or self.state):
            raise ValueError("a rendered table brings its cameras and the robot's state: leave out camera and state")
        if self.scene is not None and not 0 <= self.scene < HELD_OUT_SEEDS:
            raise ValueError(f"tables that are never learned from have seeds 0…{HELD_OUT_SEEDS - 1}, got {self.scene}")
        if self.camera and len(self.images) > 1:
            raise ValueError(f"camera says whose picture one alone is, got {len(self.images)} pictures")

    @property
    def phrases(self) -> tuple[str, ...]:
        """All of them; none where a rendered table's own sentences are meant."""
        if self.scene is not None and not self.phrase:
            return self.also
        return (self.phrase, *self.also)


@dataclass(frozen=True, kw_only=True)
class Table:
    """What is looked at: RGB pictures by camera, the robot's state, sentences with what is known of their places."""

    pictures: "Mapping[str, UInt8[Tensor, 'h w 3']]"
    state: tuple[float, ...] | None
    known: "Grounding"


def run(config: Config) -> int:
    """Look, tell and draw."""
    from policies.looking import Looker

    if config.out is not None:
        check_output_file(config.out)
    looker = Looker(_base(config))
    table = _pictured(config, looker) if config.scene is None else _rendered(config, looker)
    found = looker.find(table.pictures, table.known.sentences, table.state)
    cameras = looker.config.cameras
    for index in range(len(table.known.sentences)):
        print(*_told(table, found, cameras, index), sep="\n  ")
    if found.point_m is None:
        numbers = ", ".join(looker.config.state_names)
        print(f"no place in the world: that needs pictures of {', '.join(cameras)} and the state ({numbers})")
    print(f"sheet: {_save(config, table, found)}")
    return 0


def _base(config: Config) -> "Base":
    from policies.training.checkpoint import BACKBONE, find_product
    from vla.base import load_base
    from vla.checkpoint import CheckpointError
    from vla.saving import WEIGHTS_FILE
    from vla.shipped import shipped_base

    if isinstance(config.backbone, str):
        try:
            return shipped_base()
        except CheckpointError as error:
            raise CheckpointError(f"{error}\n--backbone RUN asks what a run of vla pretrain has learned") from error
    return load_base(find_product(config.backbone, BACKBONE, WEIGHTS_FILE))


def _pictured(config: Config, looker: "Looker") -> Table:
    """The pictures that were given; ``ValueError`` for too many or too few, ``OSError`` for what is no picture."""
    cameras, given = looker.config.cameras, config.images
    if len(given) not in (1, len(cameras)):
        raise ValueError(
            f"expected pictures of {', '.join(cameras)} (the network's cameras, in this order), or one alone; "
            f"got {len(given)}"
        )
    named = cameras if len(given) == len(cameras) else (config.camera or cameras[0],)
    state = config.state or None
    looker.check(named, config.phrases, state)
    pictures = {camera: _read(path) for camera, path in zip(named, given, strict=True)}
    return Table(pictures=pictures, state=state, known=_unknown(_alike(pictures, cameras), config.phrases))


def _rendered(config: Config, looker: "Looker") -> Table:
    """The table of the seed, with its own sentences unless there are phrases.

    ``ValueError`` where nothing can be said of it, and for a robot with other cameras than the network's.
    """
    cameras, seed = looker.config.cameras, config.scene or 0
    if config.phrases:
        looker.check(cameras, config.phrases, None)
    source = make_source(config.scenes, "held_out", worlds=1)
    try:
        known, robot = source.batch(seed, 1, SENTENCES), source.embodiment
    finally:
        source.close()
    if robot.camera_names != cameras:
        raise ValueError(
            f"the network looks through {', '.join(cameras)}, and {robot.name} has {', '.join(robot.camera_names)}"
        )
    same = tuple(dimension.name for dimension in robot.state) == looker.config.state_names
    state = tuple(known.state[0].tolist()) if same else None
    if config.phrases:
        known = _unknown(known.images, config.phrases)
    if not known.sentences:
        raise ValueError(f"nothing can be said about the table of seed {seed}: choose another one, or name a phrase")
    return Table(pictures=dict(zip(cameras, known.images[0], strict=True)), state=state, known=known)


def _read(path: Path) -> "UInt8[Tensor, 'h w 3']":
    """``OSError`` for what is no picture."""
    import numpy as np
    import torch
    from PIL import Image, ImageOps

    try:
        with Image.open(path) as image:
            return torch.from_numpy(np.array(ImageOps.exif_transpose(image).convert("RGB")))
    except OSError as error:
        raise OSError(f"expected a picture (png, jpg) at {path}: {error}") from error


def _alike(pictures: "Mapping[str, Tensor]", cameras: Sequence[str]) -> "UInt8[Tensor, '1 v h w 3']":
    """Pictures of one size to draw on, at most ``SHOWN_PX`` wide or high; black for a camera without one."""
    import torch

    from policies.network_input import network_images

    height, width = next(iter(pictures.values())).shape[:2]
    share = min(1.0, SHOWN_PX / max(height, width))
    size_px = (max(1, round(height * share)), max(1, round(width * share)))
    drawn = {camera: 255 * network_images(picture, size_px) for camera, picture in pictures.items()}
    views = [drawn.get(camera, torch.zeros(3, *size_px)) for camera in cameras]
    return torch.stack(views)[None].permute(0, 1, 3, 4, 2).round().byte()


def _unknown(images: "UInt8[Tensor, '1 v h w 3']", phrases: Sequence[str]) -> "Grounding":
    """Phrases about one table of whose places nothing is known."""
    import torch

    from envs.specs import Asked, Grounding, Receivers, Told

    n, (v, height, width) = len(phrases), images.shape[1:4]
    cover, seen = torch.zeros(n, v, height, width, dtype=torch.bool), torch.ones(n, v, dtype=torch.bool)
    nobody = torch.zeros(0, dtype=torch.long)
    return Grounding(
        images=images,
        state=torch.zeros(1, 0),
        table=torch.zeros(n, dtype=torch.long),
        sentences=tuple(phrases),
        point_m=torch.full((n, 3), math.nan),
        pixel=torch.full((n, v, 2), math.nan),
        cover=cover,
        seen=seen,
        receivers=Receivers(
            sentence=nobody, point_m=torch.zeros(0, 3), pixel=torch.zeros(0, v, 2), cover=cover[:0], seen=seen[:0]
        ),
        told=Told(table=nobody, sentences=(), false=()),
        asked=Asked(table=nobody, questions=(), answers=()),
    )


def _told(table: Table, found: "Sighting", cameras: Sequence[str], index: int) -> list[str]:
    """A phrase, its pixel in each view and its place in the world, with the distances from the truth."""
    lines = [f"“{table.known.sentences[index]}”"]
    lines += [
        _told_of_view(table, found, index, view, camera)
        for view, camera in enumerate(cameras)
        if camera in table.pictures
    ]
    if found.point_m is not None:
        at, truth = found.point_m[index], table.known.point_m[index]
        off = f"; {100 * float((at - truth).norm()):.1f} cm from the truth" if bool(truth.isfinite().all()) else ""
        lines.append("in the world: ({:.3f}, {:.3f}, {:.3f}) m".format(*at.tolist()) + off)
    return lines


def _told_of_view(table: Table, found: "Sighting", index: int, view: int, camera: str) -> str:
    height, width = table.pictures[camera].shape[:2]
    at, truth = found.pixel[index, view], table.known.pixel[index, view]
    half_px = at.new_tensor([width / 2, height / 2])
    x, y = ((at + 1) * half_px).tolist()
    line = f"{camera}: pixel ({x:.1f}, {y:.1f}) of {width} × {height}, "
    line += f"{float(found.heatmap[index, view].max()):.0%} of the heatmap in its hottest cell"
    if not bool(table.known.seen[index, view]):
        return f"{line}; it is not seen there"
    return f"{line}; {float(((at - truth) * half_px).norm()):.1f} px off" if bool(truth.isfinite().all()) else line


def _save(config: Config, table: Table, found: "Sighting") -> Path:
    from PIL import Image

    from policies.showing.grounding import grounding_sheet
    from vla.durable import written_aside

    sheet = Image.fromarray(grounding_sheet(table.known, len(table.known.sentences), 1, found))
    path = config.out
    if path is None:
        name = config.phrases[0][:40] if config.phrases else f"scene-{config.scene}"
        path = create_run_directory("ground", name, config, config.outputs) / SHEET_FILE
    path.parent.mkdir(parents=True, exist_ok=True)
    with written_aside(path) as aside:
        sheet.save(aside, format="PNG")
    return path
