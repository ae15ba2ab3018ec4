"""One moment of an episode in 3-D: what its RGB-D cameras saw, as a point cloud or as a surface, in PLY files."""

import importlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8

from policies.data.episode import Episode
from vla.durable import written_aside
from vla.spatial.cloud import fuse

VOXEL_M = 0.005
"""Step of the lattice that a surface is made on."""
BLOCK_VOXELS, FIRST_BLOCKS = 16, 2000
"""Voxels along the side of a block, and how many blocks there is room for before room is made."""
CUT_OFF_VOXELS = 8.0
"""How far from the surface distances to it are kept, both ways."""
FARTHEST_M = 5.0
"""What is farther away is left out of a surface: nothing that is done here is."""


def fused_frame(episode: Episode, frame: int) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"]]:
    """Points in the world, metres, and RGB of all pixels with a depth in all cameras that have one, at this frame.

    ``ValueError`` for an episode without depth or without its cameras' geometry, or without this frame.
    """
    points, colours = [], []
    for camera in _rgbd_cameras(episode, frame):
        geometry = episode.cameras[camera]
        cloud = fuse(
            torch.from_numpy(episode.images[camera][frame]).float().movedim(-1, 0)[None, None],
            torch.from_numpy(episode.depth[camera][frame])[None, None],
            torch.from_numpy(geometry.intrinsics[frame])[None, None],
            torch.from_numpy(geometry.T_world_cam[frame])[None, None],
        )
        points.append(cloud.points[cloud.mask].numpy())
        colours.append(cloud.features[cloud.mask].byte().numpy())
    return np.concatenate(points), np.concatenate(colours)


def surface_frame(
    episode: Episode, frame: int
) -> tuple[Float[np.ndarray, "n 3"], UInt8[np.ndarray, "n 3"], Int[np.ndarray, "m 3"]]:
    """Vertices, their RGB and triangles of the surface that the cameras agree on (TSDF fusion by Open3D).

    Errors as of :func:`fused_frame`; ``ModuleNotFoundError`` says how to install Open3D.
    """
    cameras = _rgbd_cameras(episode, frame)
    open3d = require_open3d()
    tensor, image = open3d.core.Tensor, open3d.t.geometry.Image
    grid = open3d.t.geometry.VoxelBlockGrid(
        ("tsdf", "weight", "color"), (open3d.core.float32,) * 3, ((1,), (1,), (3,)), VOXEL_M, BLOCK_VOXELS, FIRST_BLOCKS
    )
    for camera in cameras:
        geometry = episode.cameras[camera]
        K = geometry.intrinsics[frame].astype(np.float64)
        K[:2, 2] -= 0.5  # its images have the centre of the first pixel at (0, 0), ours its corner
        depth = image(tensor(np.ascontiguousarray(episode.depth[camera][frame][..., None])))
        colour = image(tensor(episode.images[camera][frame].astype(np.float32) / 255))
        T_cam_world = np.linalg.inv(geometry.T_world_cam[frame].astype(np.float64))
        seen_from = (tensor(K), tensor(T_cam_world), 1.0, FARTHEST_M, CUT_OFF_VOXELS)
        grid.integrate(grid.compute_unique_block_coordinates(depth, *seen_from), depth, colour, *seen_from)
    mesh = grid.extract_triangle_mesh(weight_threshold=0.5).to_legacy()
    colours = (255 * np.asarray(mesh.vertex_colors)).round().astype(np.uint8)
    return np.asarray(mesh.vertices, dtype=np.float32), colours, np.asarray(mesh.triangles)


def require_open3d() -> Any:
    """The ``open3d`` module; ``ModuleNotFoundError`` says how to install it."""
    try:
        return importlib.import_module("open3d")
    except ModuleNotFoundError as error:
        raise ModuleNotFoundError("surfaces need Open3D: pip install 'vla-stack[open3d]'", name="open3d") from error


def write_ply(
    path: Path,
    points: Float[np.ndarray, "n 3"],
    colours: UInt8[np.ndarray, "n 3"],
    triangles: Int[np.ndarray, "m 3"] | None = None,
) -> None:
    """Write coloured points, or a surface of these corners, as binary PLY: whole or not at all."""
    vertices = np.empty(len(points), dtype=[("place", "<f4", 3), ("colour", "u1", 3)])
    vertices["place"], vertices["colour"] = points, colours
    header = ["ply", "format binary_little_endian 1.0", f"element vertex {len(points)}"]
    header += [f"property float {axis}" for axis in "xyz"]
    header += [f"property uchar {colour}" for colour in ("red", "green", "blue")]
    body = vertices.tobytes()
    if triangles is not None:
        faces = np.empty(len(triangles), dtype=[("corners", "u1"), ("indices", "<i4", 3)])
        faces["corners"], faces["indices"] = 3, triangles
        header += [f"element face {len(triangles)}", "property list uchar int vertex_indices"]
        body += faces.tobytes()
    with written_aside(path) as aside:
        aside.write_bytes("\n".join([*header, "end_header\n"]).encode("ascii") + body)


def _rgbd_cameras(episode: Episode, frame: int) -> list[str]:
    if not 0 <= frame < len(episode):
        raise ValueError(f"the episode has frames 0…{len(episode) - 1}, asked for {frame}")
    cameras = [name for name in episode.images if name in episode.depth and name in episode.cameras]
    if not cameras:
        raise ValueError(
            "3-D needs depth and the cameras' geometry of at least one camera (vla collect --env.depth records both), "
            f"the episode has depth of {sorted(episode.depth)} and geometry of {sorted(episode.cameras)}"
        )
    return cameras
