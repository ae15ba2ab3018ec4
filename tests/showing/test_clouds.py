"""Frames in 3-D: every pixel's point, files that other programs read, and what an episode without depth is told."""

import dataclasses
import sys

import numpy as np
import pytest
from synthetic_demonstrations import make_embodiment, make_episode

from configs.cli import main
from policies.data.episode import CameraGeometry
from policies.data.writer import DemonstrationWriter
from policies.showing.clouds import fused_frame, surface_frame, write_ply


def looked_down_upon(height_m=0.8):
    """An episode of a flat table, seen from above by two cameras that stand 0.1 m apart."""
    episode = make_episode(0, make_embodiment(size_px=48), length=3)
    cameras = {}
    for number, name in enumerate(episode.images):
        pose = np.diag([1.0, -1.0, -1.0, 1.0]).astype(np.float32)
        pose[:3, 3] = (0.1 * number, 0.0, height_m)
        K = np.array([[60, 0, 24], [0, 60, 24], [0, 0, 1]], np.float32)
        cameras[name] = CameraGeometry(intrinsics=np.stack([K] * 3), T_world_cam=np.stack([pose] * 3))
    depth = {name: np.full((3, 48, 48), height_m, np.float32) for name in episode.images}
    return dataclasses.replace(episode, cameras=cameras, depth=depth)


def read_ply(path):
    """Vertices, colours and faces of a file as :func:`write_ply` writes it."""
    header, _, body = path.read_bytes().partition(b"end_header\n")
    counts = {line.split()[1]: int(line.split()[2]) for line in header.decode().splitlines() if "element" in line}
    vertices = np.frombuffer(body, [("place", "<f4", 3), ("colour", "u1", 3)], counts["vertex"])
    faces = np.frombuffer(body, [("n", "u1"), ("i", "<i4", 3)], counts.get("face", 0), vertices.nbytes)
    assert len(body) == vertices.nbytes + faces.nbytes
    return vertices["place"], vertices["colour"], faces["i"]


def test_a_frame_is_the_points_of_all_cameras_in_their_colours():
    episode = looked_down_upon()
    episode.depth["front"][1, 0, :7] = 0
    points, colours = fused_frame(episode, 1)
    assert len(points) == len(colours) == 2 * 48 * 48 - 7
    np.testing.assert_allclose(points[:, 2], 0, atol=1e-6)
    np.testing.assert_allclose(points[-1], [0.1 + 0.8 * 23.5 / 60, -0.8 * 23.5 / 60, 0], atol=1e-6)
    assert np.array_equal(colours[-1], episode.images["wrist"][1, -1, -1])


def test_a_file_holds_what_was_written(tmp_path):
    points, colours = np.random.rand(5, 3).astype(np.float32), np.arange(15, dtype=np.uint8).reshape(5, 3)
    triangles = np.array([[0, 1, 2], [2, 3, 4]])
    write_ply(tmp_path / "surface.ply", points, colours, triangles)
    for found, written in zip(read_ply(tmp_path / "surface.ply"), (points, colours, triangles), strict=True):
        assert np.array_equal(found, written)


def test_an_episode_without_depth_or_geometry_or_frame_is_refused():
    episode = looked_down_upon()
    with pytest.raises(ValueError, match=r"frames 0…2, asked for 3"):
        fused_frame(episode, 3)
    for without in ({"depth": {}}, {"cameras": {}}):
        with pytest.raises(ValueError, match=r"vla collect --env.depth records both"):
            fused_frame(dataclasses.replace(episode, **without), 0)


@pytest.fixture
def store(tmp_path):
    with DemonstrationWriter.create(tmp_path / "store", make_embodiment(size_px=48), geometry=True) as writer:
        writer.append(looked_down_upon())
    return tmp_path / "store"


def test_viz_writes_clouds(store, tmp_path, capsys):
    assert main(["dataset", "viz", str(store), "--3d", "cloud", "--frame", "2", "--out", str(tmp_path / "out")]) == 0
    (file,) = (tmp_path / "out").iterdir()
    assert file.name == "episode-000000-pick-frame-0002-cloud.ply" and file.name in capsys.readouterr().out
    assert np.array_equal(read_ply(file)[0], fused_frame(looked_down_upon(), 2)[0])


def test_viz_says_that_a_mesh_needs_open3d(store, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "open3d", None)
    assert main(["dataset", "viz", str(store), "--3d", "mesh"]) != 0
    assert "pip install 'vla-stack[open3d]'" in capsys.readouterr().err
    assert not (store / "renders").exists()


def test_a_surface_lies_where_the_table_is(tmp_path):
    open3d = pytest.importorskip("open3d", reason="needs the extra open3d", exc_type=ImportError)
    write_ply(tmp_path / "table.ply", *surface_frame(looked_down_upon(), 0))
    mesh = open3d.io.read_triangle_mesh(str(tmp_path / "table.ply"))
    vertices = np.asarray(mesh.vertices)
    assert len(mesh.triangles) > 1000 and len(mesh.vertex_colors) == len(vertices)
    np.testing.assert_allclose(vertices[:, 2], 0, atol=1e-4)
    assert vertices[:, 0].max() > 0.38 and vertices[:, 0].min() < -0.28  # both cameras' sides
