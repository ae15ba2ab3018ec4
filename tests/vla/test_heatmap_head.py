"""The heatmap head: targets lie where things appear, moved worlds move labels, and what it cannot do is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from scipy.spatial.transform import Rotation

from vla.backbones.nano import NanoConfig
from vla.backbones.vlm.config import VLMConfig
from vla.config import VLAConfig
from vla.features import Sight
from vla.heads.beside_tool import SPREAD_M, STEP_M, BesideTool
from vla.heads.euler_bins import BINS, euler_rad, of_bins, rotation_of, soft_bins
from vla.heads.heat_trunk import HeatTrunk
from vla.heads.heatmap import _moved, without_gaps
from vla.heads.heatmap_config import HeatmapConfig
from vla.observation import ActionChunk, Keyframe, Observation
from vla.spatial.cloud import Cloud
from vla.spatial.heatmaps import point_targets
from vla.spatial.renderer import render

DOWN = torch.diag(torch.tensor([1.0, -1.0, -1.0]))
TINY = NanoConfig(
    weights="fresh",
    width=16,
    depth=1,
    heads=2,
    n_queries=2,
    channels=8,
    blocks=1,
    keypoints=2,
    keypoints_per_token=1,
    second_keypoints=2,
    patch_px=16,
    max_text_tokens=8,
)
HEAD = HeatmapConfig(side_px=64, width=16, upsampler_width=8, state_dims=(1,))
HALF_M = 0.02


def network(head=HEAD, **fields):
    config = {"cameras": ("front",), "image_size_px": (16, 16), "state_dim": 3, "action_dim": 7, "horizon": 1}
    return VLAConfig(backbone=TINY, head=head, **{**config, **fields})


def keyframe(position_m):
    b = len(position_m)
    bits = torch.zeros(b)
    return Keyframe(
        position_m=position_m, rotation=DOWN.repeat(b, 1, 1), gripper=bits, gripper_after=bits + 1, clearance=bits
    )


def red_cube(centre_m):
    """The surface of a red cube about each point, among as many blue points elsewhere."""
    generator = torch.Generator().manual_seed(0)
    b = len(centre_m)
    inside = HALF_M * (2 * torch.rand(b, 600, 3, generator=generator) - 1)
    face = torch.randint(3, (b, 600, 1), generator=generator)
    surface = inside.scatter(2, face, HALF_M * inside.gather(2, face).sign())
    blue = torch.tensor([0.3, -0.2, 0.0]) + torch.rand(b, 600, 3, generator=generator) * torch.tensor([0.4, 0.4, 0.0])
    points = torch.cat([surface + centre_m[:, None], blue], dim=1)
    colours = torch.tensor([[1.0, 0, 0], [0, 0, 1.0]]).repeat_interleave(600, dim=0).expand(b, -1, 3)
    return Cloud(points=points, features=colours, mask=torch.ones(b, 1200, dtype=torch.bool))


def observation(b=2, state=None, depth=True):
    """Pictures of a plane 0.8 m below a camera that looks straight down."""
    down = torch.tensor([[0.0, -1, 0, 0.48], [-1, 0, 0, 0.0], [0, 0, -1, 0.8], [0, 0, 0, 1]])
    K = torch.tensor([[16.0, 0, 8], [0, 16, 8], [0, 0, 1]])
    return Observation(
        images=torch.rand(b, 1, 1, 3, 16, 16, generator=torch.Generator().manual_seed(1)),
        view_mask=torch.ones(b, 1, 1, dtype=torch.bool),
        text=torch.full((b, 4), 3),
        text_mask=torch.ones(b, 4, dtype=torch.bool),
        state=torch.zeros(b, 3) if state is None else state,
        depth=torch.full((b, 1, 1, 16, 16), 0.8) if depth else None,
        intrinsics=K.expand(b, 1, 1, 3, 3),
        T_world_cam=down.expand(b, 1, 1, 4, 4),
        tool_m=torch.tensor([0.45, 0.0, 0.3]).repeat(b, 1),
    )


def target(b=2):
    return ActionChunk(
        actions=torch.zeros(b, 1, 7),
        valid=torch.ones(b, 1, dtype=torch.bool),
        keyframe=keyframe(torch.tensor([[0.5, 0.1, 0.05], [0.4, -0.1, 0.0]])[:b]),
    )


def test_angles_are_those_of_scipy():
    angles = np.random.default_rng(0).uniform([-3, -1.5, -3], [3, 1.5, 3], size=(50, 3))
    expected = torch.tensor(Rotation.from_euler("xyz", angles).as_matrix(), dtype=torch.float32) @ DOWN
    given = torch.tensor(angles, dtype=torch.float32)
    torch.testing.assert_close(rotation_of(given), expected, atol=1e-5, rtol=0)
    torch.testing.assert_close(euler_rad(expected), given, atol=1e-4, rtol=0)


def test_the_likeliest_bins_are_the_nearest_rotation_with_a_bin():
    near = torch.tensor([[0, 3, 71], [40, 8, 36]])
    off = torch.tensor([[0.4, -0.4, 0.3], [-0.3, 0.2, -0.4]])
    angles = (near + off) * (2 * np.pi / BINS)
    assert torch.equal(soft_bins(angles).argmax(dim=-1), near)
    torch.testing.assert_close(of_bins(torch.zeros(1, 3, dtype=torch.long))[0], DOWN)


@pytest.mark.parametrize("moved", [False, True])
def test_a_drawn_cube_lies_where_its_heatmaps_are(moved):
    """In both looks and all views, as the world is or moved with its labels."""
    head = network().build().head
    centre_m = torch.tensor([[0.5, 0.1, 0.1], [0.4, -0.1, 0.2]])
    cloud, label = red_cube(centre_m), keyframe(centre_m)
    if moved:
        torch.manual_seed(0)
        T = head._moves(2, torch.device("cpu"))
        cloud, label = cloud.transformed(T), label.transformed(T)
        assert bool(((label.position_m - centre_m).norm(dim=-1) > 0.02).all())
    coarse = head.workspace(cloud)
    for cube in (coarse, coarse.magnified(label.position_m + 0.01, 4.0)):
        red = render(cloud, cube, 64).features[:, :, 0]
        heat, seen = point_targets(label.position_m, cube, 64, 1.5)
        assert bool(seen.all())
        rows, columns = torch.meshgrid(torch.arange(64.0), torch.arange(64.0), indexing="ij")
        middles = [
            torch.stack([(w * rows).sum((-2, -1)), (w * columns).sum((-2, -1))]) / w.sum((-2, -1)) for w in (red, heat)
        ]
        cube_px = float(HALF_M / cube.half_m[0] * 64)
        assert float((middles[0] - middles[1]).abs().max()) < 0.2 * cube_px + 0.5


def test_a_turned_world_turns_the_tool():
    head = network(replace(HEAD, shift=0.0)).build().head
    T = head._moves(1, torch.device("cpu"))
    moved = keyframe(torch.tensor([list(HEAD.centre_m)])).transformed(T)
    assert torch.allclose(moved.position_m, torch.tensor([HEAD.centre_m]), atol=1e-6)
    turn = torch.atan2(T[0, 1, 0], T[0, 0, 0])
    assert abs(float(turn)) > 1e-3
    torch.testing.assert_close(euler_rad(moved.rotation)[0], torch.stack([0 * turn, 0 * turn, turn]))


def test_leaving_gaps_out_changes_no_picture():
    cloud = red_cube(torch.tensor([[0.5, 0.1, 0.1], [0.4, -0.1, 0.2]]))
    cloud = replace(cloud, mask=torch.rand(2, 1200, generator=torch.Generator().manual_seed(0)) < 0.4)
    cube = network().build().head.workspace(cloud)
    full, packed = render(cloud, cube, 48, 1.5), render(without_gaps(cloud), cube, 48, 1.5)
    assert without_gaps(cloud).points.shape[1] < 600 and torch.equal(full.features, packed.features)


@pytest.mark.parametrize(("answer", "steps"), [("heatmap", 45), pytest.param("point", 60, marks=pytest.mark.slow)])
def test_it_learns_its_target_and_aims_at_it(answer, steps):
    torch.manual_seed(0)
    vla = network(replace(HEAD, shift=0.0, turn_rad=0.0, noise=0.02, answer=answer)).build().train()
    optimizer = torch.optim.Adam(vla.parameters(), lr=1e-2)
    first = None
    for _ in range(steps):
        loss, numbers = vla.loss(observation(), target())
        first = numbers if first is None else first
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert all(numbers[name] < 0.8 * first[name] for name in first if name != "gripper")
    aimed = vla.eval().aim(observation())
    assert torch.equal(aimed.gripper_after.round(), torch.ones(2)) and torch.equal(
        aimed.gripper.round(), torch.zeros(2)
    )
    torch.testing.assert_close(aimed.rotation, DOWN.repeat(2, 1, 1), atol=1e-5, rtol=0)


def test_the_hand_hides_nothing_and_fingers_stay():
    """Points straight above the tool are left out, those beside it, at its fingers and below it are not."""
    off_m = torch.tensor([[0, 0, 0.2], [0.1, 0, 0.1], [0, 0, 0.03], [0.2, 0, 0.2], [0, 0, -0.1]])
    tool_m = torch.tensor([[0.5, 0.1, 0.2]])
    cloud = Cloud(points=tool_m[:, None] + off_m, features=torch.rand(1, 5, 3), mask=torch.ones(1, 5).bool())
    assert network().build().head._without_hand(cloud, tool_m).mask.tolist() == [[False, False, True, True, True]]
    assert network(replace(HEAD, hand_m=0.0)).build().head._without_hand(cloud, tool_m).mask.all()


def test_beside_the_tool_is_a_gaussian_about_a_step_from_it():
    """Mixed with flat heatmaps, against the density at every pixel's centre."""
    part = BesideTool(2, sigma_px=1.5)
    share, spread, step = 0.4, 0.5, torch.tensor([0.3, -0.2, 0.5])
    with torch.no_grad():
        part.read.weight.zero_()
        part.read.bias.copy_(torch.tensor([share, spread, *step]))
    head, tool_m, side = network().build().head, torch.tensor([[0.45, 0.05, 0.1]]), 64
    cube = head.workspace(Cloud(points=tool_m[:, None], features=tool_m[:, None], mask=torch.ones(1, 1).bool()))
    flat = torch.full((1, 3, side, side), -2 * np.log(side))
    mixed = part(flat, torch.zeros(1, 2), tool_m, cube).exp()
    torch.testing.assert_close(mixed.sum(dim=(-2, -1)), torch.ones(1, 3))
    place = cube.project((tool_m + STEP_M * step)[:, None]).position[0, :, 0]
    variance = 1.5**2 + (SPREAD_M * np.exp(spread) * side / (2 * HEAD.half_m)) ** 2
    weight = torch.sigmoid(torch.tensor(share))
    for view, (x, y) in enumerate(((place + 1) * side / 2).tolist()):
        rows, columns = torch.meshgrid(torch.arange(side) + 0.5, torch.arange(side) + 0.5, indexing="ij")
        density = (-((columns - x) ** 2 + (rows - y) ** 2) / (2 * variance)).exp()
        expected = (1 - weight) / side**2 + weight * density / density.sum()
        torch.testing.assert_close(mixed[0, view], expected, atol=1e-6, rtol=1e-4)


def test_a_trunk_adds_nothing_at_first_and_moves_heat_by_seven_cells_at_most():
    torch.manual_seed(0)
    trunk = HeatTrunk(8, 2, views=3, thought=5, width=4)
    maps, thought, middle = torch.randn(1, 3, 8, 21, 21), torch.randn(1, 5), 10
    coarse, flat = torch.randn(1, 3, 21, 21), torch.full((1, 3, 2, 21, 21), -2 * np.log(21))
    hot = flat.clone()
    hot[..., middle, middle] = 0.0
    sights = [Sight(waypoint=None, position=torch.zeros(1, 3, 2, 2), log_heatmap=x, maps=maps) for x in (flat, hot)]
    assert torch.equal(trunk(coarse, sights[0], thought)[0], coarse[0])
    torch.nn.init.normal_(trunk.added.weight)
    cold, warm = (trunk(coarse, sight, thought)[0] for sight in sights)
    reached = (warm != cold).any(dim=0).nonzero() - middle
    assert reached.abs().max() == 7 and not torch.equal(cold, trunk(coarse, sights[0], thought + 1)[0])


def test_a_moved_world_moves_the_tool():
    head = network().build().head
    seen = head.perceive(network().build().backbone, observation())
    T = head._moves(2, torch.device("cpu"))
    moved = _moved(seen, T).observation.tool_m
    there = keyframe(observation().tool_m).transformed(T).position_m
    torch.testing.assert_close(moved, there)


def test_numbers_of_the_state_that_are_not_told_change_nothing():
    vla = network().build().eval()
    zero, hidden, told = (torch.zeros(2, 3) for _ in range(3))
    hidden[:, 0], told[:, 1] = 5.0, 5.0
    answers = [vla.aim(observation(state=state)).numbers for state in (zero, hidden, told)]
    assert torch.equal(answers[0], answers[1]) and not torch.equal(answers[0], answers[2])


def test_a_keyframe_side_by_side_is_the_same_keyframe():
    one = keyframe(torch.rand(3, 3))
    again = Keyframe.of(one.numbers)
    assert all(torch.equal(value, getattr(again, name)) for name, value in vars(one).items())


def test_a_config_survives_json():
    config = replace(network(), backbone=TINY.fresh)
    assert VLAConfig.from_dict(config.to_dict()) == config
    assert config.views == ("ortho_top", "ortho_front", "ortho_right") and config.view_size_px == (64, 64)


def test_what_it_cannot_work_with_is_refused():
    vla = network().build()
    with pytest.raises(ValueError, match="needs depth images and calibrated cameras"):
        vla.aim(observation(depth=False))
    with pytest.raises(ValueError, match="must be told where the tool is"):
        vla.aim(replace(observation(), tool_m=None))
    with pytest.raises(ValueError, match="learns from keyframes"):
        vla.loss(observation(), replace(target(), keyframe=None))
    with pytest.raises(TypeError, match="answers a keyframe and no actions"):
        vla.act(observation())
    with pytest.raises(ValueError, match="a horizon of 1, got 4"):
        network(horizon=4).build()
    with pytest.raises(ValueError, match="sees colour pictures alone"):
        replace(network(), backbone=replace(TINY, use_cameras=True)).build()
    with pytest.raises(ValueError, match="may lie outside of a cube"):
        replace(HEAD, noise=0.3)


def test_a_backbone_without_heatmaps_is_refused():
    class Blind(torch.nn.Module):
        config = VLMConfig(checkpoint="none")

        @property
        def heatmap_shape(self):
            raise TypeError("Blind has no heatmaps")

    with pytest.raises(ValueError, match="needs a backbone with heatmaps, such as nano"):
        HEAD.build(backbone=Blind(), state_dim=3, horizon=1, action_dim=7)
