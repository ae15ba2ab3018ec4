"""Perturbations: each axis changes what it should and nothing else, alike on every engine and number of worlds."""

import colorsys
import math
from dataclasses import replace
from itertools import pairwise

import mujoco
import numpy as np
import pytest
import torch

from envs.gym import _CHARSET, MAX_INSTRUCTION_CHARACTERS
from envs.perturbations import PRESETS, Perturbation, axes
from envs.perturbations.colour import hsv_from_rgb, rgb_from_hsv
from envs.perturbations.perturber import Perturber
from envs.perturbations.placing import radius_m
from envs.perturbations.spec import (
    NOISES,
    CameraViews,
    Displacement,
    Distractors,
    Rewrite,
    RobotStart,
    Scaled,
    SensorNoise,
    Shade,
    Size,
    Texture,
)
from envs.perturbations.looks import _shaded
from envs.perturbations.wording import rewrite
from envs.props.colours import BRIGHT, COLOURS
from envs.random import EpisodeRandom
from envs.robots.panda import PANDA
from envs.scenes.tabletop import Tabletop
from envs.specs import STATE_KEY, TASK_KEY, depth_key, extrinsics_key, image_key, intrinsics_key
from envs.suites import SUITES
from envs.tasks import TASKS, make_task
from envs.vector import TaskEnv

SEEDS = [11, 12, 13]
FRONT, WRIST = image_key("front"), image_key("wrist")
COLOSSEUM, LIBERO = axes("colosseum-14"), axes("libero-plus-7")
LOOKS = (
    "object_colour",
    "object_texture",
    "receiver_colour",
    "receiver_texture",
    "light",
    "table_colour",
    "table_texture",
    "background_texture",
    "camera",
)
"""Axes that no body feels."""


def start(perturbation, task="place", seeds=SEEDS, **settings):
    settings = {"image_size_px": (48, 48), **settings}
    env = TaskEnv(task, len(seeds), perturbation=perturbation, **settings)
    return env, env.reset(seeds)


def field_of(env, name):
    """A field of each world's model, (n, …), on either engine."""
    if hasattr(env.world, "_models"):
        return torch.stack([torch.tensor(getattr(model, name), dtype=torch.float32) for model in env.world._models])
    return env.world._simulation.field(name).float()


@pytest.fixture(scope="module")
def base():
    env, observation = start(None)
    yield env, observation
    env.close()


def test_presets_name_their_axes_and_choose_among_them():
    assert set(PRESETS) == {"colosseum-14", "libero-plus-7", "multiview"}
    assert len(COLOSSEUM) == 15 and all(COLOSSEUM[name].changed == (name,) for name in COLOSSEUM if name != "all")
    assert set(COLOSSEUM["all"].changed) == set(COLOSSEUM) - {"all"}
    assert len(LIBERO) == 35 and len({name.partition("/")[0] for name in LIBERO}) == 7
    assert list(axes("libero-plus-7:noise")) == [f"noise/{level}" for level in range(1, 6)]
    assert axes("libero-plus-7:noise/3") == {"noise/3": LIBERO["noise/3"]}
    with pytest.raises(ValueError, match="unknown preset 'colosseum'; expected one of colosseum-14, libero-plus-7"):
        axes("colosseum")
    with pytest.raises(ValueError, match="unknown axis 'lamp' of colosseum-14; expected one of object_colour, "):
        axes("colosseum-14:lamp")


def test_impossible_ranges_are_refused():
    for make in (
        lambda: Size(factor=(0.0, 1.0)),
        lambda: Size(factor=(1.2, 0.8)),
        lambda: Scaled(factor=(1.0, math.inf)),
        lambda: Shade(hue_rad=(-2.0, 2.0)),
        lambda: CameraViews(azimuths_rad=()),
        lambda: Rewrite(level=6),
        lambda: Distractors(count=0),
        lambda: SensorNoise(severity=(0.0, 2.0)),
    ):
        with pytest.raises(ValueError, match=r"expected .* got"):
            make()
    with pytest.raises(ValueError, match="at least one texture out of checker, gradient, tiles, speckles"):
        Texture(names=("wood",))


def test_without_a_perturbation_nothing_differs(base):
    env, observation = start(Perturbation())
    assert torch.equal(observation[FRONT], base[1][FRONT]) and torch.equal(env.world.qpos, base[0].world.qpos)
    assert Perturber(Perturbation(), env.task.props).idle
    env.close()


@pytest.mark.parametrize("axis", LOOKS)
def test_looks_change_pixels_and_no_body_feels_them(base, axis):
    env, observation = start(COLOSSEUM[axis])
    assert (observation[FRONT] != base[1][FRONT]).any(-1).float().mean((1, 2)).min() > 0.003
    assert torch.equal(observation[STATE_KEY], base[1][STATE_KEY]) and observation[TASK_KEY] == base[1][TASK_KEY]
    moved = extrinsics_key("front")
    assert torch.equal(observation[moved], base[1][moved]) == (axis != "camera")
    plain, _ = start(None, render=False)
    for _ in range(25):
        action = plain.expert_action()
        plain.step(action)
        env.step_chunk(action[:, None])
    assert torch.equal(env.world.qpos, plain.world.qpos) and torch.equal(env.world.qvel, plain.world.qvel)
    env.close()
    plain.close()


@pytest.mark.parametrize("axis", ["object_size", "receiver_size", "friction", "mass", "distractors"])
def test_what_bodies_feel_changes_how_they_move_and_not_the_episode(base, axis):
    env, observation = start(COLOSSEUM[axis])
    plain = base[0].layout
    k = len(plain.names)
    assert torch.equal(env.layout.position[:, :k, :2], plain.position[..., :2])
    assert torch.equal(env.layout.present[:, :k], plain.present) and torch.equal(env.layout.colour[:, :k], plain.colour)
    assert observation[TASK_KEY] == base[1][TASK_KEY]
    seen = not torch.equal(observation[FRONT], base[1][FRONT])
    assert seen == (axis not in ("friction", "mass"))
    env.close()
    felt = {"friction": "geom_friction", "mass": "body_mass"}.get(axis, "geom_size")
    if axis != "distractors":
        template = torch.tensor(getattr(env.world.model, felt), dtype=torch.float32)
        changed = (field_of(env, felt) != template).reshape(len(SEEDS), len(template), -1).any(-1)
        assert bool(changed.any(1).all()) and not bool(changed.all())


def test_friction_and_mass_are_felt():
    """The same actions end elsewhere, since a cube slips and sags otherwise."""
    actions, ends = [], {}
    for axis in (None, "friction", "mass"):
        env = TaskEnv("pick", 2, render=False, perturbation=axis and COLOSSEUM[axis])
        env.reset([1, 2])
        for step in range(40):
            if axis is None:
                actions.append(env.expert_action())
            env.step(actions[step])
        ends[axis] = env.world.qpos
        env.close()
    assert (ends["friction"] - ends[None]).abs().max() > 1e-6 and (ends["mass"] - ends[None]).abs().max() > 1e-6


def compiled(task, factors, masses):
    """The scene with other sizes and masses, as the compiler sees it: the reference."""

    def resize(spec):
        for prop in task.props:
            factor, mass = factors[prop.name], masses[prop.name]
            for geom in spec.body(prop.name).geoms:
                geom.size, geom.pos = geom.size * factor, geom.pos * factor
                geom.mass *= mass * factor**3

    return Tabletop(PANDA, task.props, resize)


@pytest.mark.parametrize("task", ["place", "stow"])
def test_sizes_and_masses_are_those_of_a_model_compiled_with_them(task):
    perturbation = Perturbation(
        object_size=Size(factor=(0.75, 1.25)), receiver_size=Size(factor=(0.75, 1.25)), mass=Scaled(factor=(0.25, 4.0))
    )
    env, _ = start(perturbation, task=task, render=False)
    for world in range(len(SEEDS)):
        scale = env.layout.scale[world].tolist()
        names = [prop.name for prop in env.task.props]
        free = [name for name, prop in zip(names, env.task.props, strict=True) if prop.motion == "free"]
        given = env.world._models[world]
        template = env.world.model
        first = template.body(free[0])
        mass = given.body(free[0]).mass[0] / first.mass[0] / scale[names.index(free[0])] ** 3
        assert 0.25 <= mass <= 4
        masses = {name: mass if name in free else 1.0 for name in names}
        reference = compiled(env.task, dict(zip(names, scale, strict=True)), masses).model
        for name in (
            "geom_size",
            "geom_pos",
            "geom_rbound",
            "geom_aabb",
            "body_mass",
            "body_inertia",
            "body_ipos",
            "body_subtreemass",
            "body_invweight0",
            "dof_invweight0",
            "dof_M0",
        ):
            got, wanted = (torch.tensor(getattr(model, name)) for model in (given, reference))
            assert torch.allclose(got, wanted, rtol=1e-6, atol=1e-9), name
    env.close()


def test_a_resized_world_moves_like_a_model_compiled_so():
    """Everything falls, tumbles and touches alike, walls of bins included."""
    env, _ = start(
        Perturbation(object_size=Size(factor=(1.2, 1.2)), receiver_size=Size(factor=(1.25, 1.25))),
        render=False,
        seeds=[3],
    )
    props = env.task.props
    factors = {prop.name: 1.2 if prop.motion == "free" else 1.25 for prop in props}
    reference = compiled(env.task, factors, dict.fromkeys(factors, 1.0)).model
    given = env.world._models[0]
    for name in ("body_pos", "body_quat", "body_gravcomp"):
        getattr(reference, name)[:] = getattr(given, name)
    ends = []
    for model in (given, reference):
        data = mujoco.MjData(model)
        data.qpos[:] = env.world.qpos[0].double().numpy()
        for i, prop in enumerate(prop for prop in props if prop.motion == "free"):
            joint = data.joint(prop.name)
            bin_ = model.body("bin0").pos
            joint.qpos[:3] = bin_ + np.array([0.07 - 0.05 * i, 0.072 - 0.03 * i, 0.1 + 0.06 * i])
            joint.qpos[3:] = [0.9, 0.3, 0.1, 0.3]
        touched = 0
        for _ in range(60):
            mujoco.mj_step(model, data)
            touched += data.ncon
        assert touched > 100
        ends.append(torch.tensor(data.qpos))
    assert torch.allclose(*ends, atol=1e-5)
    env.close()


@pytest.mark.parametrize("name", ["all", "camera/4", "light/3", "robot_start/5", "layout/4", "background/5", "noise/4"])
def test_a_world_is_perturbed_alike_whatever_the_others_are(name):
    perturbation = {**COLOSSEUM, **LIBERO}[name]
    many, seen = start(perturbation)
    one, alone = start(perturbation, seeds=SEEDS[1:2])
    assert torch.equal(seen[FRONT][1:2], alone[FRONT]) and torch.equal(seen[WRIST][1:2], alone[WRIST])
    assert torch.equal(many.world.qpos[1:2], one.world.qpos) and seen[TASK_KEY][1:2] == alone[TASK_KEY]
    for field in many._perturber.fields:
        assert torch.equal(field_of(many, field)[1:2], field_of(one, field)), field
    before = {field: field_of(many, field) for field in many._perturber.fields}
    many.reset([99, 99, 99], torch.tensor([True, False, False]))
    for field, old in before.items():
        assert torch.equal(field_of(many, field)[1:], old[1:]), field
    many.close()
    one.close()


@pytest.mark.parametrize("name", ["all", "camera/4", "light/3", "layout/4", "background/5"])
def test_both_engines_are_perturbed_alike(name):
    pytest.importorskip("mujoco_warp")
    perturbation = {**COLOSSEUM, **LIBERO}[name]
    found = []
    for engine in ("cpu", "warp"):
        settings = {"device": "cpu"} if engine == "warp" else {}
        env, observation = start(perturbation, engine=engine, depth=True, **settings)
        kept = [field for field in env._perturber.fields if field != "dof_M0"]  # which warp computes
        fields = {field: field_of(env, field).reshape(len(SEEDS), -1) for field in kept}
        found.append((fields, observation, env.world.qpos))
        env.close()
    (fields, seen, qpos), (warp_fields, warp_seen, warp_qpos) = found
    assert torch.allclose(qpos, warp_qpos, atol=1e-6)
    for field, values in fields.items():
        if field != "body_invweight0":  # what cannot move is kept otherwise
            assert torch.allclose(values, warp_fields[field], rtol=1e-5, atol=1e-6), field
    difference = (seen[FRONT].int() - warp_seen[FRONT].int()).abs().float()
    assert difference.median() <= 3 and difference.mean() < 10
    key = depth_key("front")
    assert (seen[key] - warp_seen[key]).abs().median() < 1e-3


def test_colours_agree_with_the_standard_library_and_shades_keep_their_name():
    rgb = torch.rand(50, 3, generator=torch.Generator().manual_seed(0))
    hsv = hsv_from_rgb(rgb)
    for colour, (hue, saturation, value) in zip(rgb.tolist(), hsv.tolist(), strict=True):
        wanted = colorsys.rgb_to_hsv(*colour)
        assert (hue / (2 * math.pi), saturation, value) == pytest.approx(wanted, abs=1e-5)
    assert torch.allclose(rgb_from_hsv(hsv), rgb, atol=1e-5)
    palette = torch.tensor([COLOURS[name] for name in BRIGHT])
    shades = _shaded(palette.expand(400, -1, 3), range(len(BRIGHT)), Shade(), EpisodeRandom(torch.arange(400)))
    apart = hsv_from_rgb(shades)[..., None, 0] - hsv_from_rgb(palette)[:, 0]
    nearest = torch.remainder(apart + math.pi, 2 * math.pi).sub(math.pi).abs().argmin(-1)
    assert torch.equal(nearest, torch.arange(len(BRIGHT)).expand(400, -1))
    assert shades.min() >= 0 and shades.max() <= 1 and shades.std(0).max() > 0.03


@pytest.mark.parametrize("task", sorted(TASKS))
def test_distractors_stand_clear_of_everything(task):
    made = make_task(task)
    perturber = Perturber(Perturbation(distractors=Distractors(count=4)), made.props)
    scene = Tabletop(PANDA, perturber.props, perturber.build)
    scene.home_rad = torch.tensor(PANDA.home_rad)
    perturber.bind(scene)
    seeds = torch.arange(200)
    plain = made.sample(EpisodeRandom(seeds))
    layout = perturber.arrange(plain, seeds)
    k = len(made.props)
    assert torch.equal(layout.position[:, :k], plain.position) and layout.names[:k] == plain.names
    assert bool(layout.present[:, k:].all())
    radii = torch.tensor([radius_m(scene.model, prop) for prop in scene.props])
    apart = torch.cdist(layout.position[..., :2], layout.position[..., :2]) - radii - radii[:, None]
    for i in range(k, len(scene.props)):
        others = [j for j in range(len(scene.props)) if j != i]
        gaps = apart[:, i, others].masked_fill(~layout.present[:, others], math.inf)
        assert gaps.min() > 0


def test_displaced_things_stay_clear_and_keep_their_meaning():
    for name in ("place", "tabletop-spatial/leftmost", "tabletop-spatial/by-bin"):
        env, _ = start(None, task=name, seeds=list(range(60)), render=False)
        moved, _ = start(
            Perturbation(layout=Displacement(distance_m=(0.04, 0.06))), task=name, seeds=list(range(60)), render=False
        )
        before, after = env.layout, moved.layout
        way = (after.position - before.position)[..., :2].norm(dim=-1)
        assert bool(((way < 1e-6) | ((way > 0.0399) & (way < 0.0601))).all())
        block = torch.take_along_dim(way, before.roles["block"][:, None], 1)
        assert (block > 0).float().mean() > 0.7
        assert torch.equal(after.roles["block"], before.roles["block"])
        if name != "place":
            measure = env.task._measure
            flat = after.position[..., :2]
            assert torch.equal(measure(flat[:, :3], flat[:, 3, None], flat[:, 4, None]).argmin(1), after.roles["block"])
        else:
            radii = torch.tensor([radius_m(moved._scene.model, prop) for prop in moved.task.props])
            apart = torch.cdist(after.position[..., :2], after.position[..., :2]) - radii - radii[:, None]
            both = after.present[:, :, None] & after.present[:, None]
            apart = apart.masked_fill(~both | torch.eye(len(radii), dtype=torch.bool), math.inf)
            assert apart.min() > 0
        env.close()
        moved.close()


def test_starts_of_the_arm_are_as_far_as_they_say_and_above_the_table():
    for level in (1, 5):
        env, _ = start(LIBERO[f"robot_start/{level}"], seeds=list(range(50)), render=False)
        sensed = env.sense()
        away = (sensed.joints_rad - env._scene.home_rad).norm(dim=-1)
        assert torch.allclose(away, torch.full((50,), 0.1 * level), atol=1e-3)
        assert sensed.tool_position[:, 2].min() > 0.1
        assert torch.allclose(env.world.command[:, :-1], sensed.joints_rad, atol=1e-6)
        env.close()


def test_levels_grow():
    """On average over episodes, each level differs more than the one before."""
    seeds = list(range(20))
    plain, seen = start(None, seeds=seeds)

    def differences(axis, env, other):
        if axis == "camera":
            return (other[extrinsics_key("front")] - seen[extrinsics_key("front")]).norm(dim=(1, 2))
        if axis == "robot_start":
            return (env.sense().joints_rad - plain.sense().joints_rad).norm(dim=-1)
        if axis == "language":
            return torch.tensor(list(map(_strangeness, seen[TASK_KEY], other[TASK_KEY])), dtype=torch.float32)
        if axis == "light":
            return (field_of(env, "light_diffuse") - field_of(plain, "light_diffuse")).abs()
        if axis == "layout":
            return (env.layout.position - plain.layout.position).norm(dim=-1)
        if axis == "background":
            return sum((env.world.model.ntex > 0) + _repainted(env, surface) for surface in ("table", "floor"))
        return (other[FRONT].int() - seen[FRONT].int()).abs().float()

    measured = {}
    for name, perturbation in LIBERO.items():
        axis = name.partition("/")[0]
        env, other = start(perturbation, seeds=seeds, render=axis in ("camera", "noise"))
        measured.setdefault(axis, []).append(float(differences(axis, env, other).mean()))
        env.close()
    plain.close()
    for axis, values in measured.items():
        assert all(low < high for low, high in pairwise(values)), (axis, values)


def _repainted(env, surface):
    geom = env.world.model.geom(surface)
    return (field_of(env, "geom_rgba")[:, geom.id, :3] - torch.tensor(geom.rgba[:3])).abs()


def _strangeness(sentence, other):
    """Words that came, and words that went."""
    before, after = set(sentence.split()), set(other.replace(",", "").split())
    return len(before - after) + len(after - before)


def test_rewrites_name_the_same_colours_and_fit_the_text_space():
    colours = set(COLOURS)
    for task in (*map(make_task, TASKS), *(task for suite in SUITES.values() for task in suite.tasks)):
        seeds = torch.arange(20)
        layout = task.sample(EpisodeRandom(seeds))
        for split in ("train", "held_out"):
            sentences = task.instructions(layout, split, range(20))
            for level in range(1, 6):
                perturber = Perturber(Perturbation(language=Rewrite(level=level)), task.props)
                for old, new in zip(sentences, perturber.rewrite(sentences, seeds), strict=True):
                    assert new != old and set(new) <= set(_CHARSET)
                    assert len(new) <= MAX_INSTRUCTION_CHARACTERS or len(old) > MAX_INSTRUCTION_CHARACTERS / 3, new
                    words = [[word for word in text.replace(",", "").split() if word in colours] for text in (old, new)]
                    assert words[0] == words[1]


def test_synonyms_replace_whole_words():
    config, draws = Rewrite(level=4), (0.0, 0.0, 0.0, 0.0)
    assert rewrite("pick up the red cube", config, draws) == "robot, it is your turn, please fetch the red block"
    assert "displace" in rewrite("displace the cupboard", config, draws)


def test_noise_depends_on_seed_and_step_alone():
    perturbation = Perturbation(noise=SensorNoise(severity=(0.5, 0.5)))
    env, first = start(perturbation, seeds=list(range(12)), image_size_px=(24, 24))
    action = env.expert_action()
    second = env.step_chunk(action[:, None].repeat(1, 3, 1)).observation
    single, _ = start(perturbation, seeds=[7], image_size_px=(24, 24))
    for _ in range(3):
        alone = single.step(action[7:8]).observation
    assert torch.equal(second[FRONT][7:8], alone[FRONT]) and torch.equal(second[STATE_KEY][7:8], alone[STATE_KEY])
    assert not torch.equal(first[FRONT], second[FRONT])
    env.close()
    single.close()


@pytest.mark.parametrize("kind", NOISES)
def test_each_noise_spoils_more_the_more_severe(base, kind):
    errors = []
    for severity in (0.0, 0.3, 1.0):
        env, seen = start(Perturbation(noise=SensorNoise(severity=(severity, severity), kinds=(kind,))))
        errors.append((seen[FRONT].int() - base[1][FRONT].int()).abs().float().mean().item())
        for key in (STATE_KEY, extrinsics_key("front")):
            assert torch.equal(seen[key], base[1][key])
        env.close()
    assert errors[0] < 0.01 and errors[0] < errors[1] < errors[2] and errors[2] > 2


def test_views_look_at_the_same_point_and_held_out_ones_are_new():
    views = {name: p.camera.azimuths_rad for name, p in axes("multiview").items()}
    assert len(views["train_views"]) == len(views["held_out_views"]) == 6
    assert not set(views["train_views"]) & set(views["held_out_views"])
    for name, azimuths in views.items():
        env, seen = start(axes("multiview")[name], seeds=list(range(40)), image_size_px=(16, 16))
        pose = seen[extrinsics_key("front")]
        position, forward = pose[:, :3, 3], pose[:, :3, 2]
        target = position - position[:, 2:] / forward[:, 2:] * forward
        assert target.std(0).max() < 1e-4
        around = (position - target)[:, :2]
        azimuth = torch.atan2(around[:, 1], around[:, 0])
        known = torch.tensor(azimuths)
        assert (azimuth[:, None] - known).abs().amin(1).max() < 1e-3
        assert set((azimuth[:, None] - known).abs().argmin(1).tolist()) == set(range(6))
        assert torch.equal(seen[intrinsics_key("front")][0], seen[intrinsics_key("front")][1])
        env.close()


def test_receivers_of_a_task_without_any_cannot_change():
    props = make_task("pick").props
    for axis in ("receiver_colour", "receiver_texture", "receiver_size"):
        assert Perturber(COLOSSEUM[axis], props).idle
    assert not Perturber(COLOSSEUM["object_size"], props).idle


@pytest.mark.parametrize("task", ["pushT", "peg"])
def test_things_that_must_fit_keep_their_size(task):
    props = make_task(task).props
    assert Perturber(replace(COLOSSEUM["object_size"], receiver_size=Size(factor=(0.8, 1.2))), props).idle


@pytest.mark.parametrize("task", ["pick", "place"])
def test_experts_succeed_under_every_axis(task):
    for axis, perturbation in COLOSSEUM.items():
        env = TaskEnv(task, 40, render=False, perturbation=perturbation)
        env.reset(list(range(5000, 5040)))
        for _ in range(env.max_episode_steps):
            last = env.step(env.expert_action())
            if bool((last.terminated | last.truncated).all()):
                break
        assert int(last.success.sum()) >= 36, axis
        env.close()


def test_a_far_start_of_the_arm_is_reached_from():
    env = TaskEnv("pick", 20, render=False, perturbation=Perturbation(robot_start=RobotStart(distance_rad=(0.5, 0.5))))
    env.reset(list(range(20)))
    for _ in range(env.max_episode_steps):
        last = env.step(env.expert_action())
    assert int(last.success.sum()) >= 17
    env.close()
