"""Other sizes, masses and frictions: the model is as if compiled so, and moves like that."""

from dataclasses import replace

import mujoco
import numpy as np
import pytest
import torch
from perturbed_worlds import SEEDS, start

from envs.perturbations import Perturbation, axes
from envs.perturbations.perturber import Perturber
from envs.perturbations.spec import (
    Scaled,
    Size,
)
from envs.robots.panda import PANDA
from envs.scenes.tabletop import Tabletop
from envs.tasks import make_task
from envs.vector import TaskEnv

COLOSSEUM, LIBERO = axes("colosseum-14"), axes("libero-plus-7")


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


@pytest.mark.parametrize("task", ["pushT", "peg"])
def test_things_that_must_fit_keep_their_size(task):
    props = make_task(task).props
    assert Perturber(replace(COLOSSEUM["object_size"], receiver_size=Size(factor=(0.8, 1.2))), props).idle()
