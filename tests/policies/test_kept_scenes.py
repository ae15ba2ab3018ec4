"""Scenes on disk: read back bit by bit, made anew where damaged, told apart by what was asked and of whom."""

from dataclasses import replace

import pytest
import torch
from discs import DiscSource

from policies.pretraining.keeping import KeptSource, from_bytes, to_bytes
from policies.pretraining.packing import unpacked

ASKED = (3, 4, 2, 2, True)


class CountingSource(DiscSource):
    def __init__(self, split="train"):
        super().__init__(split)
        self.made = 0

    def batch(self, *arguments, **more):
        self.made += 1
        return super().batch(*arguments, **more)


def same(a, b):
    """Bit by bit, NaN included."""
    (tensors, texts), (others, other_texts) = unpacked(a), unpacked(b)
    return (
        texts == other_texts
        and tensors.keys() == others.keys()
        and all(
            x.dtype == others[name].dtype
            and x.shape == others[name].shape
            and x.numpy().tobytes() == others[name].numpy().tobytes()
            for name, x in tensors.items()
        )
    )


@pytest.mark.parametrize("asked", [ASKED, (0, 1, 1), (0, 2, 1, 3), (5, 3, 2, 0, True)])
def test_what_is_kept_comes_back_bit_by_bit(tmp_path, asked):
    source = CountingSource()
    kept = KeptSource(source, tmp_path / "scenes", "discs")
    first, again = kept.batch(*asked), kept.batch(*asked)
    assert source.made == 1
    assert same(first, DiscSource().batch(*asked)) and same(again, first)
    another = KeptSource(CountingSource(), tmp_path / "scenes", "discs")
    assert same(another.batch(*asked), first) and another._source.made == 0
    assert kept.embodiment == source.embodiment
    kept.close()
    assert source.closed


def test_scenes_without_a_sentence_are_kept_too():
    scenes = DiscSource().batch(*ASKED)
    none = {name: getattr(scenes, name)[:0] for name in ("table", "point_m", "pixel", "cover", "seen", "sentences")}
    silent = replace(scenes, **none)
    assert same(from_bytes(to_bytes(silent)), silent)


def test_other_questions_and_other_sources_are_other_files(tmp_path):
    def files():
        return len(list(tmp_path.rglob("*.scenes")))

    train = KeptSource(CountingSource(), tmp_path, "train")
    for index, asked in enumerate([ASKED, (4, *ASKED[1:]), (3, 4, 2, 2), (3, 4, 2), (3, 4, 1, 2, True)], start=1):
        train.batch(*asked)
        assert files() == index
    held_out = KeptSource(CountingSource("held_out"), tmp_path, "held_out")
    assert held_out.batch(*ASKED).sentences[0] == "that red disc there" and files() == 6


@pytest.mark.parametrize("damage", ["cut", "flipped", "empty", "foreign"])
def test_what_is_damaged_is_made_anew(tmp_path, damage):
    source = CountingSource()
    kept = KeptSource(source, tmp_path, "discs")
    whole = kept.batch(*ASKED)
    (path,) = tmp_path.rglob("*.scenes")
    data = path.read_bytes()
    middle = len(data) // 2
    path.write_bytes(
        {
            "cut": data[:middle],
            "flipped": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "empty": b"",
            "foreign": b"scenes",
        }[damage]
    )
    assert same(kept.batch(*ASKED), whole) and source.made == 2
    assert path.read_bytes() == data, "and is whole again"
    kept.batch(*ASKED)
    assert source.made == 2


def test_a_folder_that_cannot_be_written_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="file"):
        KeptSource(CountingSource(), tmp_path / "file", "discs")


def test_a_table_is_small_on_disk():
    """Noise for pictures is the worst case, of the size and with the sentences of a pre-training."""
    scenes = DiscSource().batch(0, 2, 2, 3, True)
    images = torch.randint(0, 256, (2, 2, 64, 64, 3), dtype=torch.uint8)
    cover = torch.rand(4, 2, 64, 64) > 0.5
    assert len(to_bytes(replace(scenes, images=images, cover=cover))) / 2 < 40_000
