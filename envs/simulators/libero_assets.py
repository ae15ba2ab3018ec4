"""LIBERO's meshes, textures and scenes, which its wheel does not have: one folder put together from what there is."""

import re
import shutil
import struct
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

STYLE_TEXTURES = (
    *("light-gray-floor-tile.png", "seamless_wood_planks_floor.png", "gray_ceramic_tile.png"),
    *("light-gray-plaster.png", "yellow_linen_wall_texture.png"),
)
"""Floors and walls that LIBERO's problems ask for by style, in ``textures/``; no scene file names them."""
STAND_INS_FILE = "STAND-INS.txt"
"""A line for each file of a folder of assets that is not LIBERO's own."""
SCENES = "scenes"
THINGS = ("stable_hope_objects", "stable_scanned_objects", "turbosquid_objects")
LOADED = ("*.xml", "scenes/*.xml", "articulated_objects/*.xml", *(f"{kind}/*/*.xml" for kind in THINGS))
"""Files that LIBERO's code may read."""
_GREY = 160
_REFERENCE = re.compile(r'\bfile="([^"]+)"')
_COMMENT = re.compile(r"<!--.*?-->", re.DOTALL)


@dataclass(frozen=True, kw_only=True)
class Assets:
    """What a folder of assets has come to: files that nobody had, and those that are not LIBERO's own."""

    folder: Path
    missing: tuple[str, ...]
    stand_ins: tuple[str, ...]


def check_assets(source: Path) -> None:
    """``ValueError`` unless ``source`` is a folder of LIBERO's assets."""
    wanted = [SCENES, "textures", "articulated_objects"]
    absent = [name for name in wanted if not (source / name).is_dir()]
    if absent:
        raise ValueError(
            f"expected a folder of LIBERO's assets, with {', '.join(wanted)} (LIBERO's own libero/libero/assets, or a "
            f"copy of the data set lerobot/libero-assets); {source} has no {', '.join(absent)}"
        )


def assemble_assets(source: Path, robosuite_textures: Path, target: Path, stand_ins: bool) -> Assets:
    """Make ``target`` anew: links to all files of ``source``, and robosuite's textures where LIBERO names the same.

    With ``stand_ins`` a plain grey picture stands for each texture that is still missing; meshes are never made up.
    """
    check_assets(source)
    if target.exists():
        shutil.rmtree(target)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        place = target / file.relative_to(source)
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(file.resolve())
    listed = source / STAND_INS_FILE
    replaced = listed.read_text(encoding="utf-8").split("\n") if listed.is_file() else []
    for name in STYLE_TEXTURES:
        if not (target / "textures" / name).exists() and (robosuite_textures / name).is_file():
            (target / "textures").mkdir(parents=True, exist_ok=True)
            (target / "textures" / name).symlink_to((robosuite_textures / name).resolve())
    missing = []
    for name in missing_files(target):
        if stand_ins and name.endswith(".png"):
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            (target / name).write_bytes(plain_png(_GREY))
            replaced.append(name)
        else:
            missing.append(name)
    kept = tuple(sorted(filter(None, replaced)))
    (target / STAND_INS_FILE).unlink(missing_ok=True)
    (target / STAND_INS_FILE).write_text("".join(f"{name}\n" for name in kept), encoding="utf-8")
    return Assets(folder=target, missing=tuple(missing), stand_ins=kept)


def assembled(folder: Path) -> Assets:
    """What is in a folder that :func:`assemble_assets` has made."""
    listed = (folder / STAND_INS_FILE).read_text(encoding="utf-8").split("\n")
    return Assets(folder=folder, missing=tuple(missing_files(folder)), stand_ins=tuple(filter(None, listed)))


def missing_files(folder: Path) -> list[str]:
    """Files, relative to ``folder``, that LIBERO's scenes, things or problems name and that are not there."""
    named = {folder / "textures" / name for name in STYLE_TEXTURES}
    to_read = [xml for pattern in LOADED for xml in folder.glob(pattern) if _is_loaded(xml)]
    while to_read:
        found = [file for file in _references(to_read.pop()) if file not in named]
        named |= set(found)
        to_read += [file for file in found if file.suffix == ".xml" and file.exists()]
    absent = (file for file in named if not file.exists() and file.is_relative_to(folder))
    return sorted(file.relative_to(folder).as_posix() for file in absent)


def _is_loaded(xml: Path) -> bool:
    """Of a folder of a thing LIBERO reads the file that is called like it; the others are what it was made from."""
    return xml.parent.parent.name not in THINGS or xml.stem == xml.parent.name


def _references(xml: Path) -> Iterator[Path]:
    text = _COMMENT.sub("", xml.read_text(encoding="utf-8"))
    for name in _REFERENCE.findall(text):
        parts: list[str] = []
        for part in (*xml.parent.parts, *Path(name).parts):
            parts = parts[:-1] if part == ".." else [*parts, part]
        yield Path(*parts)


def plain_png(grey: int, side_px: int = 8) -> bytes:
    """A square picture of one grey (0 … 255), RGB."""
    rows = (b"\0" + bytes([grey] * 3) * side_px) * side_px
    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return b"\x89PNG\r\n\x1a\n" + b"".join(
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data)) for kind, data in chunks
    )
