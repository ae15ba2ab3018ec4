"""Fewer faces for a robot's outside: decimated once with Open3D, then read from the user's cache."""

import hashlib
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_RECIPE = "water-filled quadric decimation, 1"
_INDEX = "shells.json"
_FEWEST_FACES = 16


@dataclass(frozen=True, kw_only=True)
class Shell:
    """A mesh file (metres, in its body's frame) that shows a body's outside in one colour."""

    body: str
    rgba: tuple[float, ...]
    file: Path


def cache_folder() -> Path:
    """Where meshes are kept: ``$XDG_CACHE_HOME/vla-stack/meshes``, or the same under ``~/.cache``."""
    root = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(root) / "vla-stack" / "meshes"


def decimated(name: str, shells: Sequence[Shell], face_budget: int) -> list[Shell]:
    """The same outside with at most ``face_budget`` triangles, shells of one body and colour merged into one file.

    Small shells keep their faces and large ones share what is left. The result is cached under a key made of the
    files' content and the budget: Open3D is needed only where the key is new.
    """
    folder = cache_folder() / f"{name}-{_key(shells)}-{face_budget}"
    if not folder.exists():
        _write_atomically(folder, shells, face_budget)
    entries = json.loads((folder / _INDEX).read_text(encoding="utf-8"))
    return [Shell(body=e["body"], rgba=tuple(e["rgba"]), file=folder / e["file"]) for e in entries]


def _key(shells: Sequence[Shell]) -> str:
    digest = hashlib.sha256(_RECIPE.encode())
    for shell in shells:
        digest.update(json.dumps([shell.body, shell.rgba], allow_nan=False).encode())
        digest.update(hashlib.sha256(shell.file.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _write_atomically(folder: Path, shells: Sequence[Shell], face_budget: int) -> None:
    """Fill ``folder`` so that no process ever sees half of it; whoever comes first wins."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    unfinished = Path(tempfile.mkdtemp(prefix=".unfinished-", dir=folder.parent))
    try:
        _decimate_into(unfinished, shells, face_budget)
        unfinished.chmod(0o755)
        try:
            unfinished.rename(folder)
        except OSError:
            if not folder.exists():
                raise
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)


def _decimate_into(folder: Path, shells: Sequence[Shell], face_budget: int) -> None:
    try:
        import open3d
    except ImportError as error:
        raise ModuleNotFoundError(
            "decimating a robot's meshes needs Open3D: pip install 'vla-stack[robosuite,open3d]'", name="open3d"
        ) from error
    meshes = _merged(open3d, shells)
    if face_budget < _FEWEST_FACES * len(meshes):
        raise ValueError(
            f"expected a face budget of at least {_FEWEST_FACES} for each of {len(meshes)} pieces, got {face_budget}"
        )
    smallest_first = sorted(meshes, key=lambda key: len(meshes[key].triangles))
    entries, left = [], face_budget
    for i, key in enumerate(smallest_first):
        share, mesh = left // (len(smallest_first) - i), meshes[key]
        if len(mesh.triangles) > share:
            mesh = mesh.simplify_quadric_decimation(share)
        left -= len(mesh.triangles)
        if left < 0 or len(mesh.triangles) == 0:
            raise ValueError(f"cannot show {len(meshes)} pieces with {face_budget} faces; raise the face budget")
        body, rgba = key
        file = f"{i:02d}-{body}.stl"
        mesh.compute_triangle_normals()
        if not open3d.io.write_triangle_mesh(folder / file, mesh):
            raise OSError(f"cannot write {folder / file}")
        entries.append({"body": body, "rgba": rgba, "file": file})
    (folder / _INDEX).write_text(json.dumps(entries, indent=1, allow_nan=False), encoding="utf-8")


def _merged(open3d: Any, shells: Sequence[Shell]) -> dict[tuple[str, tuple[float, ...]], Any]:
    """One Open3D mesh per body and colour, vertices that coincide joined so that faces know their neighbours."""
    meshes = defaultdict(open3d.geometry.TriangleMesh)
    for shell in shells:
        mesh = open3d.io.read_triangle_mesh(shell.file)
        if len(mesh.triangles) == 0:
            raise ValueError(f"{shell.file} holds no triangles")
        meshes[shell.body, shell.rgba] += open3d.geometry.TriangleMesh(mesh.vertices, mesh.triangles)
    for mesh in meshes.values():
        mesh.remove_duplicated_vertices()
        mesh.remove_degenerate_triangles()
    return dict(meshes)
