"""Scenes to look at: pure, and true to the engine in the world and in every view."""

import hashlib
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from torch import Tensor

from envs.grounding.facts import FactFinder, projected
from envs.grounding.scenes import SceneSource, perturbation
from envs.grounding.table import tables_of
from envs.grounding.things import kind_of, pieces
from envs.perturbations import Perturbation
from envs.props.cover import Cover
from envs.props.door import HingedDoor
from envs.props.drawer import DrawerUnit, knob_position
from envs.props.slider import Slider
from envs.random import EpisodeRandom
from envs.robots.panda import PANDA
from envs.scenes.layout import scatter
from envs.scenes.regions import LEFT, MIDDLE
from envs.specs import Grounding, extrinsics_key, intrinsics_key, segmentation_key
from envs.suites import SUITES, find_task
from envs.tasks import TASKS
from envs.workplace import Workplace
from envs.world import FAST


@pytest.fixture(scope="module")
def source() -> Iterator[SceneSource]:
    made = SceneSource(worlds=8)
    yield made
    made.close()


def same(a: Grounding, b: Grounding) -> None:
    assert a.sentences == b.sentences
    for name in ("images", "state", "table", "point_m", "pixel", "cover", "seen"):
        assert torch.equal(getattr(a, name), getattr(b, name)), name


def part_of(whole: Grounding, first: int, count: int) -> Grounding:
    rows = (whole.table >= first) & (whole.table < first + count)
    chosen = {name: getattr(whole, name)[rows] for name in ("point_m", "pixel", "cover", "seen")}
    sentences = tuple(said for said, here in zip(whole.sentences, rows.tolist(), strict=True) if here)
    pictures = {name: getattr(whole, name)[first : first + count] for name in ("images", "state")}
    return replace(whole, sentences=sentences, table=whole.table[rows] - first, **pictures, **chosen)


def test_a_batch_does_not_depend_on_what_came_before_or_on_how_many(source: SceneSource) -> None:
    whole = source.batch(40, 20, 3)
    source.batch(900, 3, 1)
    same(source.batch(40, 20, 3), whole)
    for first, count in ((0, 1), (5, 9), (17, 3)):
        same(source.batch(40 + first, count, 3), part_of(whole, first, count))
    other = SceneSource(worlds=3)
    same(other.batch(45, 4, 3), part_of(whole, 5, 4))
    other.close()


_ALONE = """
import hashlib, sys
from envs.grounding.scenes import SceneSource
source = SceneSource(worlds=2)
made = source.batch(41, 2, 3)
print(hashlib.sha256(made.images.numpy().tobytes() + "|".join(made.sentences).encode()).hexdigest())
source.close()
"""


def test_another_process_makes_the_same(source: SceneSource) -> None:
    made = source.batch(41, 2, 3)
    here = hashlib.sha256(made.images.numpy().tobytes() + "|".join(made.sentences).encode()).hexdigest()
    done = subprocess.run([sys.executable, "-c", _ALONE], capture_output=True, text=True, check=True)
    assert done.stdout.split()[-1] == here


def test_shapes_are_those_of_the_promise(source: SceneSource) -> None:
    made = source.batch(3, 10, 4)
    n = len(made.sentences)
    assert made.images.shape == (10, 2, 64, 64, 3) and made.images.dtype == torch.uint8
    assert made.state.shape == (10, source.embodiment.state_dim)
    assert n == 40 and made.table.tolist() == sorted(made.table.tolist()) and set(made.table.tolist()) == set(range(10))
    assert made.point_m.shape == (n, 3) and made.pixel.shape == (n, 2, 2)
    assert made.cover.shape == (n, 2, 64, 64) and made.cover.dtype == made.seen.dtype == torch.bool
    assert made.seen.any(1).all() and torch.equal(made.seen, made.cover.flatten(2).sum(2) >= 4)


def test_wrong_requests_are_refused() -> None:
    with pytest.raises(ValueError, match="split must be one of"):
        SceneSource(split="test")  # pyright: ignore[reportArgumentType]
    with pytest.raises(ValueError, match="unknown task or suite 'juggle'"):
        SceneSource(tasks=("juggle",))
    with pytest.raises(ValueError, match="at least one world"):
        SceneSource(worlds=0)


@pytest.mark.parametrize("request_", [(0, 0, 1), (0, 1, 0), (-1, 1, 1), (2**61 - 1, 2, 1)])
def test_batches_that_no_stream_has_are_refused(source: SceneSource, request_: tuple[int, int, int]) -> None:
    with pytest.raises(ValueError, match="expected one table and one sentence"):
        source.batch(*request_)


def test_pixels_are_where_the_cameras_matrices_project_the_middle(source: SceneSource) -> None:
    facts, observation = source._seen(60, 8)
    for view, camera in enumerate(source.embodiment.camera_names):
        for world in range(8):
            matrix = np.linalg.inv(observation[extrinsics_key(camera)][world].double().numpy())
            for i in facts.present[world].nonzero()[:, 0].tolist():
                local = matrix @ np.append(facts.point_m[world, i].double().numpy(), 1.0)
                if local[2] < 0.05:
                    continue
                u, v, w = observation[intrinsics_key(camera)][world].double().numpy() @ local[:3]
                expected = np.array([u / w, v / w]) / 32 - 1
                found = facts.pixel[world, i, view].numpy()
                if np.abs(expected).max() < 3:
                    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_the_middle_of_what_shows_whole_is_near_its_pixel(source: SceneSource) -> None:
    """Solid things of which nothing hides much: the centroid of the cover is within two pixels."""
    made = source.batch(100, 64, 4)
    rows = torch.linspace(-1 + 1 / 64, 1 - 1 / 64, 64)
    apart = []
    for i, said in enumerate(made.sentences):
        if not said.rstrip("?").endswith(("cube", "ball", "button", "peg")):
            continue
        for view in range(2):
            cover, middle = made.cover[i, view].float(), made.pixel[i, view]
            if cover.sum() > 25 and middle.abs().max() < 0.7:
                centroid = torch.stack(((cover.sum(0) * rows).sum(), (cover.sum(1) * rows).sum())) / cover.sum()
                apart.append((centroid - middle).abs().max().item() * 32)
    assert len(apart) > 20 and np.median(apart) < 1.0 and np.quantile(apart, 0.9) < 3.0


def test_covers_are_the_engines_segmentation(source: SceneSource) -> None:
    """What a thing's body and all below it own is what the covers of the whole and of its parts are together."""
    facts, observation = source._seen(200, 8)
    model, props = source._workplace.scene.model, source._workplace.scene.props
    roots = [model.body(model.body_rootid[model.geom_bodyid[geom]]).name for geom in range(model.ngeom)]
    checked = 0
    for view, camera in enumerate(source.embodiment.camera_names):
        segmentation = observation[segmentation_key(camera)]
        for slot, prop in enumerate(props):
            mine = [i for i, piece in enumerate(source.pieces) if piece.slot == slot]
            owned = torch.tensor([geom for geom, root in enumerate(roots) if root == prop.name])
            for world in range(8):
                expected = torch.isin(segmentation[world], owned)
                n = len(mine)
                stacked = torch.stack([observation[segmentation_key(c)] for c in source.embodiment.camera_names], 1)
                covers = source._finder.cover(stacked, torch.full((n,), world), torch.tensor(mine))[:, view]
                assert torch.equal(covers.any(0), expected)
                assert covers.flatten(1).sum(1).tolist() == facts.shown_px[world, mine, view].tolist()
                checked += int(expected.sum())
    assert checked > 1000


FURNITURE = (
    DrawerUnit(name="drawer", region=LEFT),
    HingedDoor(name="door", region=replace(LEFT, name="right", cells_m=((0.6, -0.2),))),
    Slider(name="slider", region=MIDDLE),
)


def test_middles_of_moving_parts_are_where_the_engine_moves_them() -> None:
    place = Workplace(
        PANDA,
        FURNITURE,
        Perturbation(),
        4,
        engine="cpu",
        render=False,
        image_size_px=(16, 16),
        depth=False,
        segmentation=False,
        profile=FAST,
        velocities=False,
        privileged=False,
    )
    random = EpisodeRandom(torch.arange(4))
    layout = scatter(random, FURNITURE)
    layout = replace(
        layout, opening=torch.tensor([[0.0, 0.0, 0.0], [0.1, 1.2, 0.05], [0.13, 0.4, -0.1], [0.05, 1.7, 0.1]])
    )
    sensed = place.start(torch.arange(4), layout, random)
    found = pieces(place.scene.model, FURNITURE)
    finder = FactFinder(place.scene, found, place.device)
    points, _, _ = finder._placed(sensed, layout, sensed.opening[:, finder._slots])
    expected = {"drawer knob": "drawer/knob", "door handle": "door/handle", "door": "door/panel", "slider": "slider"}
    for world in range(4):
        data = moved(place, layout.position[world], layout.quat[world], world)
        for i, piece in enumerate(found):
            if piece.kind in expected:
                middle = data.geom_xpos[place.scene.model.geom(expected[piece.kind]).id]
                np.testing.assert_allclose(points[world, i].numpy(), middle, atol=1e-5)
    knob = knob_position(layout.position[:, 0], layout.quat[:, 0], layout.opening[:, 0])
    at = next(i for i, piece in enumerate(found) if piece.kind == "drawer knob")
    assert (points[:, at, :2] - knob[:, :2]).norm(dim=-1).max() < 1e-4
    place.world.close()


def moved(place: Workplace, position: Tensor, quat: Tensor, world: int) -> mujoco.MjData:
    """The engine's own kinematics of one world."""
    model = place.scene.model
    for prop, where, turned in zip(FURNITURE, position, quat, strict=True):
        model.body(prop.name).pos[:], model.body(prop.name).quat[:] = where.numpy(), turned.numpy()
    data = mujoco.MjData(model)
    data.qpos[:] = place.world.qpos[world].numpy()
    mujoco.mj_kinematics(model, data)
    return data


def test_everything_of_every_task_has_a_name() -> None:
    for task in (*TASKS, *SUITES):
        for name in SUITES[task].task_names if task in SUITES else (task,):
            for prop in find_task(name).props:
                assert kind_of(prop)
    assert kind_of(Cover(name="lid", region=MIDDLE, hides=())) == "box"


def test_things_lie_in_and_on_others_and_drawers_are_open_and_shut(source: SceneSource) -> None:
    kinds = [piece.kind for piece in source.pieces]
    low = {"bin": 0, "cube": 0}
    states = set()
    for first in range(0, 96, 8):
        for table in tables_of(source.facts(first, 8), source.pieces):
            states |= {table.open_states[i] for i in table.present if kinds[i] == "drawer"}
            for i in table.present:
                for j in table.present:
                    if kinds[j] in low and kinds[i] in ("cube", "ball", "die", "cylinder", "tile") and i != j:
                        (x, y, z), (u, v, _) = table.bodies[i].point_m, table.bodies[j].point_m
                        over = max(abs(x - u), abs(y - v)) < 0.022
                        low[kinds[j]] += over and z > (0.05 if kinds[j] == "cube" else 0)
    assert min(low.values()) > 0 and {1, -1} <= states


def test_arms_begin_up_to_half_a_radian_from_home(source: SceneSource) -> None:
    joints = source.batch(0, 24, 1).state[:, -7:]
    away = (joints - torch.tensor(PANDA.home_rad)).norm(dim=-1)
    assert 0.3 < away.max() < 0.55 and away.std() > 0.05
    assert perturbation().probability["robot_start"] == 1.0


def test_points_behind_a_camera_have_a_pixel_outside_of_its_picture() -> None:
    back = torch.tensor([[[0.1, 0.0, -1.0]]])
    pixel = projected(back, torch.tensor([[[50.0, 0, 32], [0, 50, 32], [0, 0, 1]]]), torch.eye(4)[None], (64, 64))
    assert pixel.isfinite().all() and pixel[..., 0] > 1
