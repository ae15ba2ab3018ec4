"""MuJoCo Warp against C MuJoCo, and against itself with other worlds beside it."""

import importlib
import re
import sys
from pathlib import Path

import mujoco
import numpy as np
import pytest
import torch

pytest.importorskip("mujoco_warp", reason="needs the extra: pip install 'vla-stack[warp]'")

import envs
from envs.backends.capacity import Capacity
from envs.backends.cpu import CpuWorld
from envs.backends.warp import WarpWorld
from envs.robots import PANDA
from envs.world import QUALITY, RenderConfig

FOLDER = Path(envs.__file__).parent
BLIND = RenderConfig(cameras=(), height_px=1, width_px=1)
SEEING = RenderConfig(cameras=("panda/wrist", "front"), height_px=48, width_px=64, depth=True, segmentation=True)
FIELDS = ("geom_rgba", "geom_size", "body_pos", "cam_pos", "cam_fovy", "body_mass")
HOME = torch.tensor([0.0, 0.2, 0.0, -2.1, 0.0, 2.3, 0.785, 0.04])
SUBSTEPS = 10
cuda = pytest.param(
    "cuda", marks=[pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")]
)


def scene() -> mujoco.MjSpec:
    """The arm over a table with two cubes and a static shelf."""
    spec = mujoco.MjSpec.from_file(str(FOLDER / "scenes" / "tabletop.xml"))
    PANDA.attach_to(spec)
    shelf = spec.worldbody.add_body(name="shelf", pos=[0.45, 0.3, 0.05])
    shelf.add_geom(name="shelf", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.08, 0.06, 0.01], quat=[0.9, 0, 0, 0.44])
    ghost = spec.worldbody.add_body(name="ghost", pos=[0.5, 0, 0.3])
    ghost.add_geom(name="ghost", size=[0.1, 0, 0], rgba=[1, 1, 1, 0], contype=0, conaffinity=0)
    for i, position in enumerate(([0.45, -0.15, 0.021], [0.55, 0.0, 0.021])):
        body = spec.worldbody.add_body(name=f"cube{i}", pos=position)
        body.add_freejoint(name=f"cube{i}")
        body.add_geom(name=f"cube{i}", type=mujoco.mjtGeom.mjGEOM_BOX, size=[0.02] * 3, mass=0.05, condim=4)
    return spec


@pytest.fixture(scope="module")
def model() -> mujoco.MjModel:
    return scene().compile()


def home(model: mujoco.MjModel, n: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Start states and commands: every world's are its own."""
    qpos = torch.tensor(model.qpos0, dtype=torch.float32).repeat(n, 1)
    command = HOME.repeat(n, 1)
    command[:, 0] += torch.linspace(-0.5, 0.5, n) if n > 1 else -0.5
    qpos[:, :7] = command[:, :7]
    qpos[:, 7:9] = 0.04
    qpos[:, 9] += 0.02 * torch.arange(n)  # the first cube's x
    return qpos, command


def put(world, qpos, command, worlds=None) -> None:
    """Start some worlds (all when None) in their rows of ``qpos`` and ``command``."""
    worlds = torch.arange(world.num_worlds) if worlds is None else torch.tensor(worlds)
    world.put(*(each.to(world.device) for each in (worlds, qpos[worlds], command[worlds])))


def started(model, n=3, fields=(), render=BLIND, **settings) -> WarpWorld:
    world = WarpWorld(model, n, render, fields, **settings)
    put(world, *home(model, n))
    return world


def everywhere(world) -> torch.Tensor:
    return torch.ones(world.num_worlds, dtype=torch.bool, device=world.device)


def drive(world, steps=3, mask=None) -> torch.Tensor:
    """Swing the arm and return which worlds diverged on the way."""
    mask = everywhere(world) if mask is None else mask
    diverged = torch.zeros_like(mask)
    command = world.command
    for step in range(steps):
        command = command + 0.03 * np.cos(step / 8)
        diverged |= world.step(command, SUBSTEPS, mask).diverged
    return diverged


@pytest.mark.parametrize("device", ["cpu", cuda])
def test_follows_c_mujoco(model, device):
    world = started(model, device=device)
    qpos, command = home(model, 3)
    assert not drive(world, steps=20).any()
    for i in range(3):
        data = mujoco.MjData(model)
        data.qpos[:], data.ctrl[:] = qpos[i], command[i]
        for step in range(20):
            data.ctrl += 0.03 * np.cos(step / 8)
            data.qacc_warmstart[:] = 0
            mujoco.mj_step(model, data, nstep=SUBSTEPS)
        np.testing.assert_allclose(world.qpos[i].cpu(), data.qpos, atol=1e-5)
        np.testing.assert_allclose(world.qvel[i].cpu(), data.qvel, atol=1e-3)
        assert np.abs(data.qpos[:7] - qpos[i, :7].numpy()).max() > 0.1


def test_graph_computes_what_direct_launches_do(model):
    recorded, direct = started(model), started(model, graphs=False)
    drive(recorded), drive(direct)
    assert torch.equal(recorded.qpos, direct.qpos)
    assert torch.equal(recorded.qvel, direct.qvel)


def test_a_world_does_not_depend_on_its_neighbours(model):
    five, one = started(model, 5), started(model, 1)
    drive(five), drive(one)
    assert torch.equal(five.qpos[:1], one.qpos)


def test_masked_step_moves_no_other_world(model):
    world, other = started(model), started(model)
    drive(world), drive(other)
    before = world.qpos, world.qvel, world.command
    mask = torch.tensor([True, False, True])
    drive(world, mask=mask)
    for was, now in zip(before, (world.qpos, world.qvel, world.command), strict=True):
        assert torch.equal(was[1], now[1])
        assert (was[mask] != now[mask]).any()
    drive(world), drive(other)
    assert torch.equal(world.qpos[1], other.qpos[1])  # nor did anything unseen change


def test_putting_a_world_touches_no_other_world(model):
    world, other = started(model), started(model)
    drive(world), drive(other)
    qpos, command = home(model, 3)
    mask = torch.tensor([False, True, False])
    put(world, qpos, command, [1])
    assert torch.equal(world.qpos[1], qpos[1])
    assert torch.equal(world.command[1], command[1])
    assert not world.qvel[1].any()
    drive(world), drive(other)
    assert torch.equal(world.qpos[~mask], other.qpos[~mask])
    fresh = started(model)
    drive(fresh)
    assert torch.equal(world.qpos[1], fresh.qpos[1])


@pytest.mark.parametrize("kind", [CpuWorld, WarpWorld])
def test_worlds_are_put_back_exactly(model, kind):
    world = kind(model, 3, BLIND, FIELDS)
    put(world, *home(model, 3))
    perturb(world)
    drive(world)
    photograph = world.snapshot()
    drive(world)
    expected = world.qpos, world.qvel, world.command
    fresh = kind(model, 3, BLIND, FIELDS)
    for each in (world, fresh):
        each.restore(photograph)
        drive(each)
        for was, now in zip(expected, (each.qpos, each.qvel, each.command), strict=True):
            assert torch.equal(was, now)
        each.close()


def test_readings_are_copies(model):
    world = started(model)
    world.qpos.zero_(), world.command.zero_()
    assert world.qpos.any()
    assert world.command.any()


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, 1e12])
def test_a_world_that_is_not_a_number_is_reported_and_harms_no_other(model, bad):
    world, other = started(model), started(model)
    qpos, command = home(model, 3)
    qpos[1, 9] = bad
    put(world, qpos, command, [1])
    assert drive(world).tolist() == [False, True, False]
    assert world.qpos[1, 9].isnan() if np.isnan(bad) else world.qpos[1, 9] == bad
    drive(other)
    assert torch.equal(world.qpos[[0, 2]], other.qpos[[0, 2]])
    put(world, *home(model, 3), [1])
    assert not drive(world).any()


def test_divergence_within_a_step_leaves_the_state_before_it(model):
    world = started(model, fields=("body_mass",))
    drive(world)
    before = world.qpos, world.qvel
    world.set_field("body_mass", [model.body("cube1").id], torch.full((1, 1), -1.0), torch.tensor([2]))
    assert world.step(world.command, SUBSTEPS, everywhere(world)).diverged.tolist() == [False, False, True]
    assert torch.equal(world.qpos[2], before[0][2])
    assert torch.equal(world.qvel[2], before[1][2])
    assert (world.qpos[:2] != before[0][:2]).any()


def test_an_inactive_world_is_not_reported(model):
    world = started(model)
    qpos, command = home(model, 3)
    put(world, qpos * torch.nan, command, [0])
    assert not drive(world, mask=torch.tensor([False, True, True])).any()


def colliding(model) -> tuple[torch.Tensor, torch.Tensor]:
    """Three worlds; in the last one two cubes inside one another fly apart: only the first substeps have contacts."""
    qpos, command = home(model, 3)
    for start, z in ((9, 0.6), (16, 0.605)):
        qpos[2, start : start + 3] = torch.tensor([0.4, 0.4, z])  # the arm is on the other side
    data = mujoco.MjData(model)
    data.qpos[:], data.ctrl[:] = qpos[2], command[2]
    mujoco.mj_step(model, data)
    assert data.ncon > 3 and data.nefc > 20
    mujoco.mj_step(model, data, nstep=39)
    assert data.ncon == 0
    return qpos, command


def in_the_air(qpos: torch.Tensor) -> torch.Tensor:
    """The cubes of the first two worlds apart from everything for a while."""
    lifted = qpos.clone()
    lifted[:2, 11], lifted[:2, 18] = 0.9, 0.9
    return lifted


def test_a_crowded_world_is_cut_short_and_the_others_go_on(model):
    qpos, command = colliding(model)
    qpos = in_the_air(qpos)
    capacities = (Capacity(contacts_per_world=64, rows_per_world=20), None)
    worlds = [WarpWorld(model, 3, BLIND, capacity=capacity) for capacity in capacities]
    for world in worlds:
        put(world, qpos, command)
    tight, roomy = (world.step(command, 40, everywhere(world)) for world in worlds)
    assert tight.crowded.tolist() == [False, False, True] and not tight.diverged.any()
    assert not roomy.crowded.any()
    assert torch.equal(worlds[0].qpos[2], qpos[2])  # its step was undone
    assert torch.equal(worlds[0].qpos[:2], worlds[1].qpos[:2]) and (worlds[0].qpos[:2] != qpos[:2]).any()


def test_what_would_have_sufficed_is_named(model):
    qpos, command = colliding(model)
    world = WarpWorld(model, 3, BLIND, capacity=Capacity(contacts_per_world=64, rows_per_world=20))
    put(world, qpos, command)
    assert world.step(command, 40, everywhere(world)).crowded[2]
    asked = world.capacity_needed().split("needed")[0]
    named = {name: int(size) for name, size in re.findall(r"(\w+)=(\d+)", asked)}
    assert named["rows_per_world"] > 20
    roomy = WarpWorld(model, 3, BLIND, capacity=Capacity(**named))
    put(roomy, qpos, command)
    assert not roomy.step(command, 40, everywhere(world)).crowded.any()
    assert roomy.qpos[2, 18] - roomy.qpos[2, 11] > 0.04  # they did fly apart


def test_touches_equal_those_of_c_mujoco():
    """Whose contact sensors see something, in a scene with more of them than a word has bits."""
    spec = scene()
    names = ["cube0", "cube1", "shelf", "panda/left_finger", "panda/hand", "world"]
    body, subtree = mujoco.mjtObj.mjOBJ_BODY, mujoco.mjtObj.mjOBJ_XBODY
    for one in names:
        for other in names:
            sensor = spec.add_sensor(
                name=f"touch/{one}/{other}", type=mujoco.mjtSensor.mjSENS_CONTACT,
                objtype=subtree if one != "world" else body, objname=one, reftype=body, refname=other,
            )  # fmt: skip
            sensor.intprm[:3] = (1, 0, 1)
    with_sensors = spec.compile()
    worlds = [kind(with_sensors, 3, BLIND) for kind in (CpuWorld, WarpWorld)]
    qpos, command = home(with_sensors, 3)
    qpos[1, 16:19] = qpos[1, 9:12] + torch.tensor([0.0, 0.0, 0.0399])  # the second cube on the first
    qpos[2, 11] = 0.5
    found = []
    for world in worlds:
        put(world, qpos, command)
        assert not world.touches.any()
        world.step(command, SUBSTEPS, everywhere(world))
        found.append(world.touches.reshape(3, len(names), len(names)))
        world.close()
    assert torch.equal(*found)
    cube0, cube1, ground = names.index("cube0"), names.index("cube1"), names.index("world")
    assert found[0][0, cube0, ground] and not found[0][0, cube0, cube1]
    assert found[0][1, cube0, cube1] and found[0][1, cube1, cube0] and not found[0][1, cube1, ground]
    assert not found[0][2, cube0].any()


def test_a_cube_on_another_rests_as_it_does_in_c_mujoco(model):
    for kind in (CpuWorld, WarpWorld):
        world = kind(model, 1, BLIND)
        qpos, command = home(model, 1)
        qpos[0, 16:19] = qpos[0, 9:12] + torch.tensor([0.004, -0.006, 0.0399])
        qpos[0, 19:23] = torch.tensor([0.995, 0.0, 0.0, 0.0998])  # turned, so that no edges coincide
        put(world, qpos, command)
        heights = []
        for _ in range(30):
            world.step(command, SUBSTEPS, everywhere(world))
            heights.append(world.qpos[0, 16:19])
        trembling_m = torch.stack(heights[-10:]).std(0).max()
        assert trembling_m < 2e-5, kind
        world.close()


def test_capacity_is_counted_from_the_scene(model):
    # two cubes and the hand with 8 contacts each, two fingers of a box and two of their beads with 8 + 2 + 2, six
    # capsules of links with 4, and 8 to spare; 6 rows in a contact of condim 4; 9 joint limits and the coupling of
    # the fingers
    assert Capacity.of(model) == Capacity(contacts_per_world=80, rows_per_world=80 * 6 + 9 + 1, contacts_shared=75)
    with pytest.raises(ValueError, match="at least 1 contact"):
        Capacity(contacts_per_world=0, rows_per_world=1)


def perturb(world) -> None:
    """Give worlds 1 and 2 appearances of their own."""
    model = world.model
    geom, body, camera = model.geom("cube0").id, model.body("shelf").id, model.camera("front").id
    values = {
        ("geom_rgba", geom): [[0.9, 0.1, 0.1, 1], [0.1, 0.1, 0.9, 1]],
        ("geom_size", geom): [[0.05, 0.02, 0.03], [0.02, 0.06, 0.02]],
        ("body_pos", body): [[0.5, 0.1, 0.2], [0.6, -0.3, 0.05]],
        ("cam_pos", camera): [[1.1, 0.1, 0.75], [0.9, -0.1, 0.7]],
        ("cam_fovy", camera): [[55.0], [35.0]],
    }
    for (name, index), rows in values.items():
        value = torch.tensor(rows)
        world.set_field(name, [index], value if name == "cam_fovy" else value[:, None], torch.tensor([1, 2]))


def test_images_and_fields_agree_with_opengl(model):
    warp, reference = (kind(model, 3, SEEING, tuple(dict.fromkeys(FIELDS))) for kind in (WarpWorld, CpuWorld))
    try:
        for world in (warp, reference):
            put(world, *home(model, 3))
            perturb(world)
        seen, expected = (world.render(everywhere(world)) for world in (warp, reference))
    finally:
        warp.close(), reference.close()
    assert list(seen) == ["panda/wrist", "front"]
    for name, images in seen.items():
        truth = expected[name]
        assert images.rgb.dtype == torch.uint8
        assert images.rgb.shape == (3, 48, 64, 3)
        torch.testing.assert_close(images.T_world_cam, truth.T_world_cam, atol=1e-5, rtol=0)
        for i in range(3):
            same = images.segmentation[i] == truth.segmentation[i]
            assert same.float().mean() > 0.99
            assert (images.depth_m[i] - truth.depth_m[i]).abs().median() < 1e-3
            # highlights are computed per vertex there and per pixel here
            assert (images.rgb[i].float() - truth.rgb[i].float()).abs()[same].mean() < 12
        assert ((images.segmentation == -1) == (images.depth_m == 0)).all()
    ids = [model.geom(name).id for name in ("cube0", "shelf")]
    assert all((seen["front"].segmentation[1] == i).any() for i in ids)


def test_static_bodies_that_moved_also_collide_there(model):
    world = WarpWorld(model, 2, BLIND, ("body_pos",))
    qpos, command = home(model, 2)
    qpos[:, 9:12] = torch.tensor([0.45, -0.3, 0.29])
    put(world, qpos, command)
    shelf = torch.tensor([[[0.45, -0.3, 0.25]]])
    world.set_field("body_pos", [model.body("shelf").id], shelf, torch.tensor([1]))
    world.step(command, 150, everywhere(world))
    assert world.qpos[0, 11] == pytest.approx(0.02, abs=2e-3)
    assert 0.27 < world.qpos[1, 11] < 0.4  # on the shelf, where boxes turned against each other may bounce


def test_fields_reach_recorded_steps(model):
    world = started(model, 2, fields=("body_mass",))
    drive(world)
    world.set_field("body_mass", [model.body("panda/hand").id], torch.tensor([[50.0]]), torch.tensor([1]))
    same = started(model, 2, fields=("body_mass",))
    drive(same), drive(same), drive(world)
    heavy = (world.qpos - same.qpos).abs().amax(1)
    assert heavy[1] > 1e-3
    assert heavy[0] < heavy[1] / 10


def test_images_of_other_worlds_stay(model):
    world = started(model, render=SEEING)
    first = world.render(everywhere(world))["front"]
    qpos, command = home(model, 3)
    qpos[:, 9] += 0.1
    put(world, qpos, command)
    second = world.render(torch.tensor([True, False, True]))["front"]
    for kind in ("rgb", "depth_m", "segmentation"):
        was, now = getattr(first, kind), getattr(second, kind)
        assert torch.equal(was[1], now[1])
        assert (was[0] != now[0]).any()


def test_shadows_follow_the_profile(model):
    plain = started(model, 1, render=SEEING)
    config = RenderConfig(cameras=("front",), height_px=48, width_px=64, profile=QUALITY)
    shaded = started(model, 1, render=config)
    mask = everywhere(plain)
    without, with_ = (world.render(mask)["front"] for world in (plain, shaded))
    assert with_.depth_m is None
    assert with_.segmentation is None
    darker = without.rgb.float().mean(-1) - with_.rgb.float().mean(-1)
    assert (darker > 20).float().mean() > 0.01
    assert darker.min() > -2


def test_refuses_what_it_cannot_do(model):
    world = started(model, fields=FIELDS)
    worlds = torch.arange(3)
    with pytest.raises(ValueError, match=r"geom_friction cannot be set per world.*body_pos"):
        world.set_field("geom_friction", [0], torch.zeros(3, 1, 3), worlds)
    with pytest.raises(ValueError, match=r"geom_rgba of shape \(3, 1, 4\), got \(3, 1, 3\)"):
        world.set_field("geom_rgba", [0], torch.zeros(3, 1, 3), None)
    with pytest.raises(ValueError, match="nonsense"):
        WarpWorld(model, 1, BLIND, ("nonsense",))
    with pytest.raises(KeyError, match="no camera 'side'"):
        WarpWorld(model, 1, RenderConfig(cameras=("side",), height_px=8, width_px=8))
    with pytest.raises(ValueError, match="num_worlds"):
        WarpWorld(model, 0, BLIND)


def test_closing_twice_is_fine_and_use_afterwards_is_not(model):
    world = started(model)
    qpos, command = home(model, 3)
    mask = everywhere(world)
    world.close()
    world.close()
    uses = (
        lambda: world.step(command, 1, mask),
        lambda: world.put(torch.arange(3), qpos, command),
        lambda: world.render(mask),
        lambda: world.set_field("geom_rgba", [0], torch.zeros(3, 1, 4), None),
        lambda: world.qpos,
    )
    for use in uses:
        with pytest.raises(RuntimeError, match="the environment is closed; make a new one"):
            use()


def test_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "mujoco_warp", None)
    monkeypatch.delitem(sys.modules, "envs.backends.warp")
    with pytest.raises(ModuleNotFoundError, match=r"pip install 'vla-stack\[warp\]'"):
        importlib.import_module("envs.backends.warp")
