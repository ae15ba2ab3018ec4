"""The gallery shows what it says, and stays small enough for a page."""

import re
from pathlib import Path

from PIL import Image

from envs.suites import task_names

DOCS = Path(__file__).resolve().parents[2] / "docs"


def test_every_section_shows_a_task_and_every_clip_is_shown():
    page = (DOCS / "gallery.md").read_text(encoding="utf-8")
    sections = re.findall(r"^## (.+)$", page, re.MULTILINE)
    clips = re.findall(r"!\[.+\]\(gallery/(.+)\.webp\)", page)
    assert [section.replace("/", "-") for section in sections] == clips
    assert sections == list(task_names(sections))
    assert sorted(clips) == sorted(file.stem for file in (DOCS / "gallery").iterdir())


def test_clips_move_and_are_small():
    sizes = []
    for file in sorted((DOCS / "gallery").iterdir()):
        sizes.append(file.stat().st_size)
        with Image.open(file) as clip:
            assert clip.format == "WEBP" and getattr(clip, "n_frames", 1) > 1 and clip.size == (385, 288)
    assert max(sizes) <= 250_000 and sum(sizes) <= 5_000_000
