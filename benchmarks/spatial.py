"""Pictures of point clouds and the point that heatmaps agree on: how long they take, beside other ways to the same.

    vla bench spatial [--batch 16] [--turns 3] [--json PATH]

Pictures: the RGB-D of two cameras per scene becomes a cloud and that three orthographic pictures. Ours takes the whole
batch at once; the NumPy loop goes through scenes and pictures one by one and paints from far to near; Open3D, if it is
installed, does so through its own projection, which is a pinhole's from far away and has no discs. Point: the exact
arg-max of three heatmaps of 224 px in the cube, ours and by scoring all 224³ points a slab at a time, for heatmaps with
a peak and for noise. Milliseconds are of processor time of all threads, medians of turns; one thread, where that can be
said. MB is the most that was held at once beyond what was there before.
"""

import argparse
import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from report import home_path, machine, natural, print_table, write_json
from torch import Tensor
from torch.profiler import ProfilerActivity, profile

from configs.terminal import ending_with_the_reader
from vla.spatial.cloud import fuse
from vla.spatial.heatmaps import best_point, point_targets, score
from vla.spatial.projection import CubeViews
from vla.spatial.renderer import render

SEED = 0
HEATMAP_PX, SIGMA_PX, SLAB = 224, 1.5, 8
FAR_AWAY_HALVES = 1000.0


@dataclass(frozen=True, kw_only=True)
class Case:
    """Pictures in, pictures out; BridgeVLA's discs have a radius of 0.006 of the side."""

    camera_px: int
    side_px: int
    radius_px: float

    def __str__(self) -> str:
        return f"2 × RGB-D {self.camera_px} px → 3 × {self.side_px} px, discs of {self.radius_px:g} px"


CASES = (
    Case(camera_px=84, side_px=96, radius_px=0.0),
    Case(camera_px=84, side_px=96, radius_px=0.6),
    Case(camera_px=128, side_px=224, radius_px=0.0),
    Case(camera_px=128, side_px=224, radius_px=1.344),
)


@dataclass(frozen=True, kw_only=True)
class Scenes:
    """Colours and smooth depths of two cameras, as of a bumpy table, and the cube about it."""

    colours: Tensor
    depth_m: Tensor
    intrinsics: Tensor
    T_world_cam: Tensor
    cube: CubeViews

    @classmethod
    def drawn(cls, batch: int, px: int) -> "Scenes":
        generator = torch.Generator().manual_seed(SEED)
        bumps = torch.rand(batch * 2, 1, 6, 6, generator=generator)
        depth_m = 0.6 + 0.5 * torch.nn.functional.interpolate(bumps, (px, px), mode="bicubic").view(batch, 2, px, px)
        K = torch.tensor([[px, 0, px / 2], [0, px, px / 2], [0, 0, 1]])
        down = torch.tensor([[0.0, -1, 0, 0.0], [-1, 0, 0, 0], [0, 0, -1, 1], [0, 0, 0, 1]])
        aside = torch.tensor([[1.0, 0, 0, 0.0], [0, 0, 1, -0.8], [0, -1, 0, 0.2], [0, 0, 0, 1]])
        return cls(
            colours=torch.rand(batch, 2, 3, px, px, generator=generator),
            depth_m=depth_m.clamp(min=0.2),
            intrinsics=K.expand(batch, 2, 3, 3),
            T_world_cam=torch.stack([down, aside]).expand(batch, 2, 4, 4),
            cube=CubeViews(centre_m=torch.tensor([[0.0, 0, 0.2]]).expand(batch, 3), half_m=torch.full((batch,), 0.5)),
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--batch", type=natural, default=16, help="scenes that are drawn together")
    parser.add_argument("--turns", type=natural, default=3, help="measured, after one to warm up")
    parser.add_argument(
        "--json", type=home_path, help="also write the figures, with machine and versions, to this file"
    )
    options = parser.parse_args()
    torch.set_num_threads(1)
    print(machine())
    pictures = [row for case in CASES for row in picture_rows(case, options.batch, options.turns)]
    print_table(pictures)
    print()
    points = [row for name, maps in heatmaps(options.batch).items() for row in point_rows(name, maps, options.turns)]
    print_table(points)
    if options.json:
        figures = {"batch": options.batch, "pictures": pictures, "points": points}
        write_json(options.json, "spatial", figures, seeds=[SEED])


def picture_rows(case: Case, batch: int, turns: int) -> list[dict[str, Any]]:
    """Ours first, which the others are compared with."""
    scenes = Scenes.drawn(batch, case.camera_px)
    ways: dict[str, Callable[[], Any]] = {
        "ours": lambda: drawn_by_us(scenes, case),
        "NumPy loop": lambda: drawn_by_numpy(scenes, case),
    }
    if case.radius_px == 0 and (open3d := installed_open3d()):
        ways["Open3D"] = lambda: drawn_by_open3d(open3d, scenes, case)
    agree(drawn_by_us(scenes, case), drawn_by_numpy(scenes, case))
    return compared({"pictures": str(case)}, ways, turns, scenes=batch)


def point_rows(name: str, maps: Tensor, turns: int) -> list[dict[str, Any]]:
    """Ours for the whole batch; the dense lattice for its first scene, since it takes seconds for each."""
    batch = len(maps)
    cube = CubeViews(centre_m=torch.zeros(batch, 3), half_m=torch.ones(batch))
    first = CubeViews(centre_m=cube.centre_m[:1], half_m=cube.half_m[:1])
    ours = compared({"heatmaps": name}, {"ours": lambda: best_point(maps, cube)}, turns, scenes=batch)[0]
    dense = compared({"heatmaps": name}, {"all 224³": lambda: best_of_lattice(maps[:1], first)}, 1, scenes=1)[0]
    dense["times ours"] = dense["ms per scene"] / ours["ms per scene"]
    ours["MB"], dense["MB"] = (
        round(most_held_bytes(way) / 1e6, 1)
        for way in (lambda: best_point(maps[:1], first), lambda: best_of_lattice(maps[:1], first))
    )
    if not torch.allclose(best_point(maps[:1], first)[1], best_of_lattice(maps[:1], first), rtol=1e-5):
        raise AssertionError(f"heatmaps with {name}: the lattice has a better point")
    return [ours, dense]


def compared(
    about: Mapping[str, str], ways: Mapping[str, Callable[[], Any]], turns: int, *, scenes: int
) -> list[dict[str, Any]]:
    """Milliseconds of each way, which take turns, and how many times the first one's that is."""
    taken_ms: dict[str, list[float]] = {name: [] for name in ways}
    for turn in range(turns + 1):
        for name, way in ways.items():
            began = time.process_time()
            way()
            if turn:
                taken_ms[name].append(1e3 * (time.process_time() - began))
    median = {name: statistics.median(each) for name, each in taken_ms.items()}
    first = next(iter(median.values()))
    return [
        {**about, "by": name, "ms": ms, "ms per scene": ms / scenes, "times ours": ms / first}
        for name, ms in median.items()
    ]


def drawn_by_us(scenes: Scenes, case: Case) -> Tensor:
    cloud = fuse(scenes.colours, scenes.depth_m, scenes.intrinsics, scenes.T_world_cam)
    return render(cloud, scenes.cube, case.side_px, case.radius_px).features


def drawn_by_numpy(scenes: Scenes, case: Case) -> np.ndarray:
    """Scene by scene, picture by picture; of all that is painted on a pixel the last stays."""
    batch, side = len(scenes.colours), case.side_px
    pictures = np.zeros((batch, 3, side * side, 3), np.float32)
    px = case.camera_px
    v, u = np.meshgrid(np.arange(px) + 0.5, np.arange(px) + 0.5, indexing="ij")
    homogeneous = np.stack([u, v, np.ones_like(u)], -1).reshape(-1, 3)
    for scene in range(batch):
        clouds = []
        for view in range(2):
            K, pose = scenes.intrinsics[scene, view].numpy(), scenes.T_world_cam[scene, view].numpy()
            rays = homogeneous @ np.linalg.inv(K).T * scenes.depth_m[scene, view].numpy().reshape(-1, 1)
            clouds.append(rays @ pose[:3, :3].T + pose[:3, 3])
        relative = np.concatenate(clouds) - scenes.cube.centre_m[scene].numpy()
        relative /= float(scenes.cube.half_m[scene])
        colours = scenes.colours[scene].movedim(1, -1).reshape(-1, 3).numpy()
        for view in range(3):
            local = relative[:, CubeViews.AXES[view]] * np.array(CubeViews.SIGNS[view])
            painted(pictures[scene, view], local, colours, side, case.radius_px)
    return pictures.reshape(batch, 3, side, side, 3)


def painted(picture: np.ndarray, local: np.ndarray, colours: np.ndarray, side: int, radius_px: float) -> None:
    seen = np.flatnonzero((np.abs(local) <= 1).all(-1))
    order = seen[np.argsort(-local[seen, 2], kind="stable")]
    place = (local[order, :2] + 1) * side / 2
    own = np.minimum(place.astype(int), side - 1)
    reach = int(radius_px + 0.5)
    steps = np.stack(np.meshgrid(*[np.arange(-reach, reach + 1)] * 2, indexing="xy"), -1).reshape(1, -1, 2)
    pixels = own[:, None] + steps
    near = ((pixels + 0.5 - place[:, None]) ** 2).sum(-1) <= radius_px**2
    near = (near | (steps == 0).all(-1)) & (pixels >= 0).all(-1) & (pixels < side).all(-1)
    who, which = np.nonzero(near)
    picture[pixels[who, which, 1] * side + pixels[who, which, 0]] = colours[order[who]]


def installed_open3d() -> Any:
    """The module, or None."""
    try:
        import open3d
    except ImportError:
        return None
    return open3d


def drawn_by_open3d(open3d: Any, scenes: Scenes, case: Case) -> list[Any]:
    """One cloud per scene from its two pictures, and that cloud's image in three pinholes far away."""
    px, side, pictures = case.camera_px, case.side_px, []
    near = open3d.camera.PinholeCameraIntrinsic(px, px, px, px, px / 2 - 0.5, px / 2 - 0.5)
    focal_px, middle = FAR_AWAY_HALVES * side / 2, side / 2 - 0.5
    far = open3d.core.Tensor([[focal_px, 0, middle], [0, focal_px, middle], [0, 0, 1.0]])
    for scene in range(len(scenes.colours)):
        cloud = open3d.geometry.PointCloud()
        for view in range(2):
            rgb = (255 * scenes.colours[scene, view]).byte().movedim(0, -1).contiguous().numpy()
            depth = open3d.geometry.Image(scenes.depth_m[scene, view].contiguous().numpy())
            pair = open3d.geometry.RGBDImage.create_from_color_and_depth(
                open3d.geometry.Image(rgb), depth, depth_scale=1.0, depth_trunc=9.0, convert_rgb_to_intensity=False
            )
            extrinsic = np.linalg.inv(scenes.T_world_cam[scene, view].double().numpy())
            cloud += open3d.geometry.PointCloud.create_from_rgbd_image(pair, near, extrinsic)
        points = open3d.t.geometry.PointCloud.from_legacy(cloud)
        half_m, centre_m = float(scenes.cube.half_m[scene]), scenes.cube.centre_m[scene].numpy()
        for axes, signs in zip(CubeViews.AXES, CubeViews.SIGNS, strict=True):
            pose = np.eye(4)
            pose[:3, :3] = np.eye(3)[list(axes)] * np.array(signs)[:, None]
            pose[:3, 3] = -pose[:3, :3] @ centre_m + [0, 0, FAR_AWAY_HALVES * half_m]
            image = points.project_to_rgbd_image(
                side, side, far, open3d.core.Tensor(pose), depth_scale=1.0, depth_max=2 * FAR_AWAY_HALVES
            )
            pictures.append(np.asarray(image.color.to_legacy()))
    return pictures


def agree(ours: Tensor, theirs: np.ndarray) -> None:
    """Both are to draw the same: rounding moves a few points to the next pixel. ``AssertionError`` if they do not."""
    same = (ours.movedim(2, -1) - torch.from_numpy(theirs)).abs().amax(-1) < 1e-5
    if same.float().mean() < 0.99:
        raise AssertionError(f"pictures differ in {1 - float(same.float().mean()):.1%} of their pixels")


def heatmaps(batch: int) -> dict[str, Tensor]:
    """Logarithms of heatmaps as a network has when it knows where, and as one has that knows nothing."""
    generator = torch.Generator().manual_seed(SEED)
    cube = CubeViews(centre_m=torch.zeros(batch, 3), half_m=torch.ones(batch))
    target, _ = point_targets(1.8 * torch.rand(batch, 3, generator=generator) - 0.9, cube, HEATMAP_PX, SIGMA_PX)
    noise = torch.randn(batch, 3, HEATMAP_PX, HEATMAP_PX, generator=generator)
    peaks = (target + 1e-3).log() + 0.3 * noise
    return {name: each.flatten(2).log_softmax(-1).view_as(each) for name, each in (("a peak", peaks), ("noise", noise))}


def best_of_lattice(maps: Tensor, cube: CubeViews) -> Tensor:
    """The highest score of all points behind the pixels' centres, a slab of the cube after the other."""
    steps = (2 * torch.arange(HEATMAP_PX) + 1) / HEATMAP_PX - 1
    slabs = (torch.cartesian_prod(x, steps, steps) for x in steps.split(SLAB))
    return torch.stack([score(points[None], maps, cube).amax(dim=1) for points in slabs]).amax(dim=0)


def most_held_bytes(way: Callable[[], Any]) -> int:
    """Of what PyTorch allocates and frees meanwhile, the most at once."""
    with profile(activities=[ProfilerActivity.CPU], profile_memory=True) as profiled:
        way()
    held, most = 0, 0
    events = [each for each in profiled.profiler.kineto_results.events() if each.name() == "[memory]"]
    for event in sorted(events, key=lambda each: each.start_ns()):
        held += event.nbytes()
        most = max(most, held)
    return most


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
