"""A base asked about pictures answers as it did when it was evaluated, and says what it cannot answer."""

from pathlib import Path

import pytest
import torch
from discs import DiscScenes, DiscSource, looking_embodiment, tiny_backbone, tiny_pretraining

from policies.looking import Looker
from policies.pretraining.trainer import pretrain
from vla.base import load_base

NAMES = looking_embodiment().camera_names


@pytest.fixture(scope="module")
def summary(tmp_path_factory):
    run_dir = tmp_path_factory.mktemp("runs") / "looked"
    return pretrain(run_dir, tiny_pretraining(), tiny_backbone(), DiscScenes(), show_progress=False)


@pytest.fixture(scope="module")
def looker(summary):
    return Looker(load_base(Path(summary.backbone)))


def test_it_is_as_far_off_as_the_run_says(summary, looker):
    scenes = DiscSource("held_out").batch(0, tiny_pretraining().held_out_tables, 2)
    world_m, near_px = [], []
    for table in range(len(scenes.images)):
        here = (scenes.table == table).nonzero()[:, 0].tolist()
        pictures = dict(zip(NAMES, scenes.images[table], strict=True))
        found = looker.find(pictures, [scenes.sentences[i] for i in here], scenes.state[table].tolist())
        world_m.append((found.point_m - scenes.point_m[here]).norm(dim=-1))
        away_px = 16 * (found.pixel - scenes.pixel[here]).norm(dim=-1)
        inside = scenes.seen[here] & (scenes.pixel[here].abs().amax(dim=-1) <= 1)
        near_px.append((away_px <= 3)[inside].float())
        torch.testing.assert_close(found.heatmap.sum((-2, -1)), torch.ones(len(here), 2))
    assert 100 * torch.cat(world_m).mean() == pytest.approx(summary.held_out["world_cm"], rel=1e-4)
    assert torch.cat(near_px).mean() == pytest.approx(summary.held_out["within_3px"], rel=1e-4)


def test_one_picture_alone_is_looked_at_and_places_nothing_in_the_world(looker):
    scenes = DiscSource().batch(3, 1, 1)
    front, side = scenes.images[0]
    state = scenes.state[0].tolist()
    both = looker.find({"front": front, "side": side}, scenes.sentences, state)
    alone = looker.find({"front": front}, scenes.sentences, state)
    assert alone.looked.tolist() == [True, False] and both.looked.all()
    assert alone.heatmap[0, 0].sum() == pytest.approx(1, abs=1e-5) and alone.pixel[0, 0].abs().max() <= 1
    moved = looker.find({"front": front.flip(1)}, scenes.sentences, state)
    assert not torch.allclose(alone.heatmap[0, 0], moved.heatmap[0, 0])
    assert alone.point_m is None and both.point_m.shape == (1, 3)
    assert looker.find({"front": front, "side": side}, scenes.sentences).point_m is None


def test_pictures_of_any_size_are_taken(looker):
    scenes = DiscSource().batch(3, 1, 1)
    front = scenes.images[0, 0]
    large = front.repeat_interleave(4, 0).repeat_interleave(4, 1)
    a, b = (looker.find({"front": picture}, scenes.sentences).pixel[0, 0] for picture in (front, large))
    torch.testing.assert_close(a, b, atol=0.02, rtol=0)


@pytest.mark.parametrize(
    ("cameras", "phrases", "state", "message"),
    [
        (("top",), ["the red disc"], None, r"looks through the cameras front, side; got \['top'\]"),
        ((), ["the red disc"], None, "got no picture"),
        (("front",), [], None, "expected phrases such as 'the red cube', got"),
        (("front",), ["the red disc", " "], None, "expected phrases such as"),
        (("front",), ["the red disc " * 9], None, "expected instructions of at most 24 tokens"),
        (("front",), ["the red disc"], [0.0], r"the state has 3 numbers \(tool_x, tool_y, tool_z\), got 1"),
    ],
)
def test_what_cannot_be_answered_is_refused(looker, cameras, phrases, state, message):
    black = torch.zeros(8, 8, 3, dtype=torch.uint8)
    with pytest.raises(ValueError, match=message):
        looker.find(dict.fromkeys(cameras, black), phrases, state)
