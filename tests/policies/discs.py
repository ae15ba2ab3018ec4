"""A tiny world to look at: two coloured discs on a dark table, seen by two cameras; sentences name one of them."""

from dataclasses import replace

import torch
from point_mass import point_mass_embodiment

from envs.specs import Asked, CameraSpec, Dimension, Grounding, Receivers, Told
from policies.pretraining.config import PretrainConfig
from policies.pretraining.trainer import NOTHING_BEFORE, pretrain
from policies.training.augment import AugmentConfig
from vla.backbones.nano import NanoConfig

SIZE_PX, RADIUS_PX = 32, 4
COLOURS = {"red": (220, 40, 40), "blue": (40, 60, 220)}
PHRASES = {"train": "the {} disc", "held_out": "that {} disc there"}
TELLING = {"train": "a {} disc left of a {} disc", "held_out": "left of that {1} disc there is a {0} disc"}
ASKING = {
    "train": ("which disc is left?", "is the red disc left?", "how many discs?"),
    "held_out": ("which one is left?", "is that red disc left?", "how many discs there?"),
}


def looking_embodiment():
    """A point in space whose state is where its tool is; two cameras, the second one seeing half the table."""
    state = tuple(Dimension(name=f"tool_{axis}", unit="m", low=-1.0, high=1.0) for axis in "xyz")
    cameras = tuple(CameraSpec(name=name, height_px=SIZE_PX, width_px=SIZE_PX) for name in ("front", "side"))
    return replace(point_mass_embodiment(), name="looker", state=state, cameras=cameras)


class DiscSource:
    """Fulfils ``envs.specs.GroundingSource``. The front camera maps x, y in ±0.5 m to its picture; the side camera
    looks at x ≥ 0 alone, larger. What is not seen has NaN for a pixel.
    """

    embodiment = looking_embodiment()

    def __init__(self, split="train"):
        self.split = split
        self.closed = False

    def batch(self, first_seed, tables, sentences_per_table, questions_per_table=0, captions=False):
        drawn = [self._table(seed) for seed in range(first_seed, first_seed + tables)]
        images = torch.full((tables, 2, SIZE_PX, SIZE_PX, 3), 30, dtype=torch.uint8)
        table, sentences, points, pixels, covers = [], [], [], [], []
        for index, (places, _) in enumerate(drawn):
            shown = [self._disc(x, y) for x, y in places.tolist()]
            for (_, cover), colour in zip(shown, COLOURS.values(), strict=True):
                images[index][cover] = torch.tensor(colour, dtype=torch.uint8)
            for colour, (x, y), (pixel, cover) in list(zip(COLOURS, places.tolist(), shown, strict=True))[
                :sentences_per_table
            ]:
                table.append(index)
                sentences.append(PHRASES[self.split].format(colour))
                points.append((x, y, 0.02))
                pixels.append(pixel)
                covers.append(cover)
        cover = torch.stack(covers)
        seen = cover.flatten(2).sum(-1) > 12
        return Grounding(
            images=images,
            state=torch.stack([tool for _, tool in drawn]),
            table=torch.tensor(table),
            sentences=tuple(sentences),
            point_m=torch.tensor(points),
            pixel=torch.stack(pixels).masked_fill(~seen[..., None], float("nan")),
            cover=cover,
            seen=seen,
            receivers=Receivers(
                sentence=torch.zeros(0, dtype=torch.long),
                point_m=torch.zeros(0, 3),
                pixel=torch.zeros(0, 2, 2),
                cover=cover[:0],
                seen=seen[:0],
            ),
            told=self._told([places for places, _ in drawn] if captions else []),
            asked=self._asked([places for places, _ in drawn], min(questions_per_table, 3)),
        )

    def _told(self, tables):
        said = [TELLING[self.split].format(*_from_the_left(places)) for places in tables]
        false = [TELLING[self.split].format(*reversed(_from_the_left(places))) for places in tables]
        return Told(table=torch.arange(len(tables)), sentences=tuple(said), false=tuple(false))

    def _asked(self, tables, count):
        pairs = []
        for places in tables:
            left = _from_the_left(places)[0]
            answers = (left, "yes" if left == "red" else "no", "two")
            pairs += zip(ASKING[self.split][:count], answers[:count], strict=True)
        table = torch.arange(len(tables)).repeat_interleave(count)
        return Asked(table=table, questions=tuple(q for q, _ in pairs), answers=tuple(a for _, a in pairs))

    def close(self):
        self.closed = True

    def _table(self, seed):
        """Where the discs and the tool are; the discs lie apart."""
        source = torch.Generator().manual_seed(seed)
        places = 0.8 * torch.rand(2, 2, generator=source) - 0.4
        places[1, 1] = places[0, 1] + torch.where(places[0, 1] > 0, -0.35, 0.35)
        return places, 0.3 * torch.randn(3, generator=source)

    def _disc(self, x, y):
        """Pixel of the middle and cover, per view."""
        centres = torch.tensor([[2 * x, 2 * y], [4 * x - 1, 2 * y]])
        grid = (2 * torch.arange(SIZE_PX) + 1) / SIZE_PX - 1
        away = (grid[None, :, None] - centres[:, 1, None, None]) ** 2 + (
            grid[None, None] - centres[:, 0, None, None]
        ) ** 2
        return centres, away < (2 * RADIUS_PX / SIZE_PX) ** 2


def _from_the_left(places):
    """The discs' colours; that of the smaller x comes first."""
    red, blue = COLOURS
    return (red, blue) if places[0, 0] < places[1, 0] else (blue, red)


class DiscScenes:
    """Fulfils ``policies.pretraining.scenes.Scenes`` in this process."""

    embodiment = DiscSource.embodiment

    def __init__(self):
        self._sources = {split: DiscSource(split) for split in PHRASES}
        self.asked = []

    def batch(self, request, then=None):
        self.asked.append((request, then))
        return request.of(self._sources[request.split])


def tiny_backbone(**fields):
    return NanoConfig(
        **{
            "weights": "fresh",
            "width": 32,
            "depth": 1,
            "heads": 2,
            "n_queries": 2,
            "channels": 16,
            "blocks": 1,
            "keypoints": 4,
            "keypoints_per_token": 2,
            "patch_px": 16,
            "max_text_tokens": 24,
            **fields,
        }
    )


def tiny_pretraining(**fields):
    return PretrainConfig(
        **{
            "steps": 12,
            "tables": 4,
            "sentences_per_table": 2,
            "questions_per_table": 2,
            "warmup_steps": 3,
            "augment": AugmentConfig(shift_fraction=0.0, channel_gain=0.02),
            "statistics_tables": 16,
            "held_out_tables": 8,
            "evaluate_every": 5,
            "log_every": 2,
            "save_every": 4,
            **fields,
        }
    )


def run(run_dir, *, scenes=None, teaching=None, resume=False, backbone=None, before=NOTHING_BEFORE, **fields):
    return pretrain(
        run_dir,
        tiny_pretraining(**fields),
        backbone or tiny_backbone(),
        scenes or DiscScenes(),
        teaching,
        before=before,
        resume=resume,
        show_progress=False,
    )


def result(run_dir):
    """Everything that two runs must share bit by bit."""
    last = run_dir / "checkpoints" / "last"
    files = [run_dir / "metrics.jsonl", last / "backbone/config.json", *sorted(last.rglob("*.safetensors"))]
    return [path.read_bytes() for path in files]
