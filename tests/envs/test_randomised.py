"""``randomised``: kept apart from the tests by its rules; probabilities, strengths, and ranges that move."""

import colorsys
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import torch
from perturbed_worlds import FRONT, SEEDS, WRIST, field_of, start

from envs.perturbations import PRESETS, Perturbation, apart, axes
from envs.perturbations.colour import HUES
from envs.perturbations.randomised import RANDOMISED, RGBD
from envs.perturbations.ranges import Axis
from envs.perturbations.spec import (
    CameraJitter,
    Distractors,
    LampColour,
    LampShift,
    Latency,
    Pushes,
    Rewrite,
    Scaled,
    SensorNoise,
    Size,
    Texture,
)
from envs.scenes.tabletop import TABLE
from envs.specs import STATE_KEY, TASK_KEY, extrinsics_key
from envs.vector import TaskEnv

TESTS = {name: preset for name, preset in PRESETS.items() if name != "randomised"}
TRAINING = axes("randomised")
ROOT = Path(__file__).parents[2]
NAMED = re.compile(rf"\b({'|'.join(PRESETS)}):([a-z_/0-9]+)")


def overlap(one, other):
    return max(0.0, min(one[1], other[1]) - max(one[0], other[0]))


@pytest.mark.parametrize("axis", RANDOMISED)
def test_training_ranges_keep_to_their_rules(axis):
    row = RANDOMISED[axis]
    varied = [f"{name}:{each}" for name, preset in TESTS.items() for each, p in preset.items() if axis in p.changed]
    assert [each.rule for each in row.apart] == ["untested"] or varied
    for each in row.apart:
        if each.rule == "untested":
            assert not varied
            continue
        training = apart.choice(row.training, each.number)
        for config in apart.tested(axis, each):
            test = apart.choice(config, each.number)
            match each.rule:
                case "beyond":
                    assert overlap(training, test) < 1e-9
                case "half":
                    assert overlap(training, test) <= 0.5 * (test[1] - test[0]) + 1e-9
                case "names":
                    assert len(set(training) & set(test)) <= len(test) / 2
                case "words":
                    assert training != test


def test_randomised_covers_all_axes_and_every_test_axis_has_a_rule():
    configs = {field.name for field in fields(Perturbation)} - {"probability"}
    assert set(RANDOMISED) == configs and set(TRAINING) == configs | {"all", "all_rgbd"}
    assert set(TRAINING["all_rgbd"].changed) == configs and set(TRAINING["all"].changed) == configs - {*RGBD}
    assert set(TRAINING["all_rgbd"].probability.values()) == {0.5} == set(TRAINING["all"].probability.values())
    for axis in configs:
        assert TRAINING[axis].changed == (axis,)


def test_the_documentation_prints_the_table():
    assert apart.markdown() in (ROOT / "docs/simulation.md").read_text()
    assert len(list(apart.rows())) > len(RANDOMISED)


def test_every_axis_named_in_texts_exists():
    found = set()
    for folder in ("configs", "envs", "examples", "docs", "policies", "rl", "."):
        files = (ROOT / folder).glob("*.*") if folder == "." else (ROOT / folder).rglob("*.*")
        for file in files:
            if file.suffix in (".py", ".md"):
                found |= {(str(file), match[0]) for match in NAMED.finditer(file.read_text())}
    assert len({name for _, name in found}) > 5
    for file, name in found:
        assert axes(name.rstrip("/")), file


@pytest.mark.parametrize("engine", ["cpu", "warp"])
def test_where_no_axis_is_applied_the_world_is_as_built(engine):
    """Also after an episode in which all were: fields are put back."""
    if engine == "warp":
        pytest.importorskip("mujoco_warp")
    settings = {"engine": "warp", "device": "cpu"} if engine == "warp" else {}
    settings["depth"] = True
    never = replace(TRAINING["all_rgbd"], probability=dict.fromkeys(RANDOMISED, 0.0))
    plain, wanted = start(None, **settings)
    env, seen = start(replace(never, probability={}), **settings)
    assert seen[TASK_KEY] != wanted[TASK_KEY] and not torch.equal(seen[FRONT], wanted[FRONT])
    env.perturb(never)
    seen = env.reset(SEEDS)
    assert seen[TASK_KEY] == wanted[TASK_KEY]
    assert torch.equal(seen[STATE_KEY], wanted[STATE_KEY])
    for key, value in wanted.items():
        if "cameras" in key or "depth" in key:
            assert torch.allclose(seen[key], value, atol=1e-6), key
    for key in (FRONT, WRIST):
        assert ((seen[key].int() - wanted[key].int()).abs() > 1).float().mean() < 0.002, key
    for name in ("body_mass", "cam_pos", "cam_quat", "cam_fovy", "light_dir", "actuator_gainprm", "actuator_biasprm"):
        built = torch.tensor(getattr(env.world.model, name), dtype=torch.float32)
        here = field_of(env, name).reshape(len(SEEDS), *built.shape)
        assert torch.allclose(here, built.expand_as(here), rtol=1e-6), name
    for _ in range(5):
        action = plain.expert_action()
        plain.step(action)
        env.step(action)
    k = len(plain.task.props)
    assert torch.allclose(env.sense().position[:, :k], plain.sense().position, atol=1e-5)
    assert torch.allclose(env.sense().joints_rad, plain.sense().joints_rad, atol=1e-5)
    env.close()
    plain.close()


def test_axes_are_applied_in_their_share_of_the_episodes_and_independently():
    both = Perturbation(
        mass=Scaled(factor=(2.0, 2.0)),
        friction=Scaled(factor=(0.5, 0.5)),
        probability={"mass": 0.25, "friction": 0.5},
    )
    env, _ = start(both, seeds=list(range(400)), render=False)
    model = env.world.model
    heavy = (field_of(env, "body_mass") > 1.5 * torch.tensor(model.body_mass)).any(1)
    slippery = (field_of(env, "geom_friction")[..., 0] < 0.6 * torch.tensor(model.geom_friction[:, 0])).any(1)
    env.close()
    assert heavy.float().mean() == pytest.approx(0.25, abs=0.06)
    assert slippery.float().mean() == pytest.approx(0.5, abs=0.07)
    assert (heavy & slippery).float().mean() == pytest.approx(0.125, abs=0.05)


def test_impossible_probabilities_are_refused():
    with pytest.raises(ValueError, match="expected probabilities of mass; got"):
        Perturbation(mass=Scaled(factor=(1, 2)), probability={"camera": 0.5})
    with pytest.raises(ValueError, match="probability of mass, got"):
        Perturbation(mass=Scaled(factor=(1, 2)), probability={"mass": 1.5})


def test_strength_goes_from_as_built_to_the_full_ranges():
    for perturbation in (each for preset in PRESETS.values() for each in preset.values()):
        assert perturbation.scaled(1.0) == perturbation
        steps = [perturbation.scaled(strength) for strength in (0.0, 0.3, 0.6, 1.0)]
        assert set(steps[0].probability.values()) == {0.0}
        for axis, config in perturbation.axes.items():
            for number, built in config.built.items():
                away = [_farthest(each.axes[axis], number, built) for each in steps]
                assert away[0] == 0 and away == sorted(away)
            shares = [each.probability.get(axis, 1.0) for each in steps]
            assert shares == sorted(shares) and shares[-1] == perturbation.probability.get(axis, 1.0)
    with pytest.raises(ValueError, match="for strength, got"):
        perturbation.scaled(1.5)


def _farthest(config: Axis, number, built):
    value = getattr(config, number)
    return max(abs(end - built) for end in (value if isinstance(value, tuple) else (value,)))


def test_draws_of_a_seed_grow_in_proportion_to_the_strength():
    perturbation = Perturbation(camera=CameraJitter(), mass=Scaled(factor=(0.5, 3.0)))
    away = []
    for strength in (0.25, 0.5, 1.0):
        env, _ = start(perturbation.scaled(strength), render=False)
        template = torch.tensor(env.world.model.cam_pos, dtype=torch.float32)
        mass = torch.tensor(env.world.model.body_mass, dtype=torch.float32)
        away.append((field_of(env, "cam_pos") - template, field_of(env, "body_mass") - mass))
        env.close()
    for quarter, half, full in zip(*away, strict=True):
        assert torch.allclose(4 * quarter, full, atol=1e-5) and torch.allclose(2 * half, full, atol=1e-5)
        assert full.abs().max() > 0.01


def test_ranges_that_move_count_from_each_world_s_next_start():
    weak = Perturbation(
        camera=CameraJitter(translation_m=0.0, rotation_rad=0.0),
        latency=Latency(steps=(0, 0)),
        noise=SensorNoise(severity=(0.0, 0.0), kinds=("gaussian",)),
    )
    strong = Perturbation(
        camera=CameraJitter(translation_m=0.2), latency=Latency(steps=(5, 5)), noise=SensorNoise(severity=(1.0, 1.0))
    )
    env, first = start(weak)
    env.perturb(strong)
    seen = env.step(torch.zeros(3, 7)).observation
    assert torch.equal(seen[extrinsics_key("front")], first[extrinsics_key("front")])
    assert (seen[FRONT].int() - first[FRONT].int()).abs().float().mean() < 1
    seen = env.reset([*SEEDS], torch.tensor([True, False, True]))
    moved = (seen[extrinsics_key("front")] - first[extrinsics_key("front")]).abs().amax((1, 2)) > 1e-4
    spoilt = (seen[FRONT].int() - first[FRONT].int()).abs().float().mean((1, 2, 3)) > 1
    assert moved.tolist() == spoilt.tolist() == [True, False, True]
    home = env.world.command.clone()
    env.step(torch.tensor([0.04, 0, 0, 0, 0, 0, 0]).repeat(3, 1))
    assert ((env.world.command - home).abs().amax(1) > 0.01).tolist() == [False, True, False]
    wanted = start(strong)
    whole = env.reset(SEEDS)
    assert torch.equal(whole[FRONT], wanted[1][FRONT])
    env.close()
    wanted[0].close()


def test_what_needs_another_scene_is_refused():
    given = Perturbation(
        distractors=Distractors(count=2), table_texture=Texture(names=("checker",)), light=LampColour()
    )
    env = TaskEnv("place", 1, render=False, perturbation=given)
    for changed, complaint in (
        ({"mass": Scaled(factor=(1, 2))}, "expected ranges for the axes light, table_texture, distractors; got .*mass"),
        ({"distractors": Distractors(count=3)}, "expected 2 distractors, .* got 3"),
        ({"table_texture": Texture(names=("tiles",))}, "expected the patterns of table_texture"),
        ({"light": LampShift(shift=(0, 0.1), tilt_rad=(0, 0.1))}, "light_dir"),
    ):
        with pytest.raises(ValueError, match=complaint):
            env.perturb(replace(given, **changed))
    env.perturb(replace(given, light=LampColour(rgb=(0.1, 0.2))))
    env.close()


@pytest.mark.parametrize("task", ["place", "pick", "button", "pushT", "tabletop-long/tidy"])
def test_everything_at_once_runs(task):
    env, _ = start(TRAINING["all"], task=task, image_size_px=(16, 16), seeds=[1, 2])
    for _ in range(10):
        last = env.step(env.expert_action())
    assert bool(last.observation[STATE_KEY].isfinite().all())
    env.close()


def test_impossible_configs_of_new_axes_are_refused():
    for make in (
        lambda: Latency(steps=(0, 6)),
        lambda: Latency(steps=(0.5, 1)),
        lambda: Pushes(probability=(0, 2), speed_m_s=(0, 0.1)),
        lambda: Rewrite(level=(0, 2)),
        lambda: Size(factor=(0.1, 1)),
    ):
        with pytest.raises(ValueError, match=r"expected .* got"):
            make()


def test_the_table_keeps_to_the_hues_of_its_training():
    """As bright as the tests' tables, in other hues than half of them."""
    training, wanted = TRAINING["table_colour"], set(RANDOMISED["table_colour"].training.hues)
    env, _ = start(training, seeds=range(64))
    learned, tested = table_colours(env), table_colours(start(axes("colosseum-14")["table_colour"], seeds=range(64))[0])
    assert set(hues_of(learned)) == wanted and set(hues_of(tested)) == set(HUES)
    assert learned.max(-1).values.quantile(0.75) > 0.75


def table_colours(env):
    geom = env.world.model.geom(TABLE).id
    return field_of(env, "geom_rgba")[:, geom, :3]


def hues_of(rgb):
    """Of each colour, by the angle of its hue."""
    return [HUES[int(6 * colorsys.rgb_to_hsv(*each)[0])] for each in rgb.tolist()]
