"""What robots touch: the world and never themselves, with limited forces and fingers that stay together."""

from collections.abc import Iterator
from pathlib import Path

import mujoco
import numpy as np
import pytest

import envs
from envs.robots import PANDA, SO100, UR5E
from envs.scenes.tabletop import TABLE_TOP, Tabletop
from envs.tasks import TASKS, make_task

SCENE = Path(envs.__file__).parent / "scenes" / "tabletop.xml"
BOX, CAPSULE = mujoco.mjtGeom.mjGEOM_BOX, mujoco.mjtGeom.mjGEOM_CAPSULE
TORQUES_NM = {"panda": [87] * 4 + [12] * 3, "ur5e": [150] * 3 + [28] * 3, "so100": [25] * 3 + [8] * 2}
FOREARMS = {"panda": "link5", "ur5e": "forearm", "so100": "forearm"}
primitive_arms = pytest.mark.parametrize("arm", [PANDA, UR5E, SO100], ids=lambda arm: arm.name)


class Bench:
    """An arm at home over the table, gripper open, with one box (2 cm half a side), weightless or fixed."""

    def __init__(self, arm, thing_m=(5.0, 0.0, 1.0), *, fixed=False) -> None:
        spec = mujoco.MjSpec.from_file(str(SCENE))
        arm.attach_to(spec)
        thing = spec.worldbody.add_body(name="thing", pos=thing_m, gravcomp=1)
        if not fixed:
            thing.add_freejoint(name="thing")
        thing.add_geom(name="thing", type=BOX, size=[0.02] * 3, mass=0.5, condim=4)
        self.arm, self.model = arm, spec.compile()
        model, self.data = self.model, mujoco.MjData(self.model)
        self.thing = model.body("thing").id
        joints = [model.joint(arm.prefix + joint) for joint in arm.joints]
        self.columns = [joint.dofadr[0] for joint in joints]  # places in qpos as well
        self.low, self.high = np.array([joint.range for joint in joints]).T
        self.fingers = [model.joint(arm.prefix + finger).qposadr[0] for finger in arm.fingers]
        self.data.qpos[self.columns] = arm.home_rad
        self.data.qpos[self.fingers] = arm.opening_m / 2
        self.command(arm.home_rad, arm.opening_m / 2)
        mujoco.mj_forward(model, self.data)
        self.bodies = {i for i in range(model.nbody) if model.body(i).name.startswith(arm.prefix)}
        parts = (arm.gripper.hand, arm.gripper.left_finger, arm.gripper.right_finger)
        self.hand, *self.pads = (model.body(arm.prefix + part).id for part in parts)
        self.links = self.bodies - {self.hand, *self.pads}

    def command(self, joints_rad, opening_m=None) -> None:
        self.data.ctrl[: len(self.columns)] = joints_rad
        if opening_m is not None:
            self.data.ctrl[-1] = opening_m

    def steps(self, seconds) -> Iterator[None]:
        """Simulate, handing back after every timestep."""
        for _ in range(round(seconds / self.model.opt.timestep)):
            mujoco.mj_step(self.model, self.data)
            yield

    def touching(self) -> list[set[int]]:
        """Pairs of bodies in contact."""
        return [set(self.model.geom_bodyid[pair].tolist()) for pair in self.data.contact.geom[: self.data.ncon]]

    def postures(self, count, seed, from_home_rad=np.inf):
        """Within the limits and that far from home."""
        home = np.array(self.arm.home_rad)
        low, high = np.maximum(self.low, home - from_home_rad), np.minimum(self.high, home + from_home_rad)
        return np.random.default_rng(seed).uniform(low, high, (count, len(low)))

    def forearm(self):
        """The middle of the forearm's longest capsule (m) and the direction in which the first joint swings it."""
        model, data = self.model, self.data
        body = model.body(self.arm.prefix + FOREARMS[self.arm.name]).id
        capsules = [i for i in range(model.ngeom) if model.geom_bodyid[i] == body and model.geom_type[i] == CAPSULE]
        at = data.geom_xpos[max(capsules, key=lambda i: model.geom_size[i][1])].copy()
        first = model.dof_jntid[self.columns[0]]
        way = np.cross(data.xaxis[first], at - data.xanchor[first])
        return at, way / np.linalg.norm(way)

    def lowest_m(self, bodies):
        """The lowest point of what is drawn of ``bodies``, those that cannot move left out."""
        model, data = self.model, self.data
        of = model.geom_bodyid
        geoms = np.flatnonzero(np.isin(of, list(bodies)) & (model.body_weldid[of] != 0) & (model.geom_group < 3))
        size, down = model.geom_size[geoms], np.abs(data.geom_xmat[geoms, 6:])
        ball, rod = size[:, 0], size[:, 1] * down[:, 2]
        reach = {
            mujoco.mjtGeom.mjGEOM_SPHERE: ball,
            CAPSULE: ball + rod,
            mujoco.mjtGeom.mjGEOM_CYLINDER: ball * np.hypot(down[:, 0], down[:, 1]) + rod,
            BOX: (down * size).sum(-1),
        }
        kinds = [reach[mujoco.mjtGeom(kind)][i] for i, kind in enumerate(model.geom_type[geoms])]
        return (data.geom_xpos[geoms, 2] - kinds).min()


@primitive_arms
@pytest.mark.parametrize("task", TASKS)
def test_no_contact_or_constraint_is_stiffer_than_the_timestep_allows(arm, task):
    """Time constants of at least two timesteps: MuJoCo's documentation of ``solref``; negative ones are stiffnesses."""
    model = Tabletop(arm, make_task(task).props).model
    names = ("geom_solref", "eq_solref", "jnt_solref", "dof_solref", "tendon_solref_lim", "tendon_solref_fri")
    for name in (*names, "pair_solref"):
        seconds = getattr(model, name).reshape(-1, 2)[:, 0]
        assert ((seconds <= 0) | (seconds >= 2 * model.opt.timestep)).all(), name


@primitive_arms
@pytest.mark.parametrize("fixed", [False, True])
@pytest.mark.parametrize("aside_m", [0.0, 0.008, 0.015])
def test_fingers_close_alike_on_what_is_not_in_their_middle(arm, aside_m, fixed):
    """They stay within a millimetre: a thing comes to the middle, and one that will not keeps both fingers away."""
    tool = Bench(arm).data.site(arm.prefix + arm.tool_site)
    bench = Bench(arm, tool.xpos + tool.xmat.reshape(3, 3) @ [0, aside_m, 0], fixed=fixed)
    bench.command(arm.home_rad, 0.0)
    for _ in bench.steps(1.0):
        left, right = bench.data.qpos[bench.fingers]
        assert abs(left - right) < 1e-3
    gap_m = bench.data.qpos[bench.fingers].sum()
    touched = [{bench.thing, pad} in bench.touching() for pad in bench.pads]
    assert any(touched) if fixed else all(touched)
    assert gap_m > 0.038 if fixed else gap_m == pytest.approx(0.04, abs=2e-3)


@primitive_arms
def test_nothing_of_an_arm_goes_through_the_table(arm):
    """Commanded to put an elbow or a wrist into it, never farther ahead of the real angles than the controller."""
    bench, home, depths = Bench(arm), np.array(arm.home_rad), []
    postures = bench.postures(3000, seed=0, from_home_rad=1.8)
    for posture in postures:
        bench.data.qpos[bench.columns] = posture
        mujoco.mj_kinematics(bench.model, bench.data)
        links_m, gripper_m = bench.lowest_m(bench.links), bench.lowest_m(bench.bodies - bench.links)
        depths.append(links_m - gripper_m if links_m < -0.05 else np.inf)
    order = np.argsort(depths)[:4]  # links first, and the gripper far above them
    assert np.array(depths)[order].max() < 0
    touched = set()
    for posture in postures[order]:
        bench = Bench(arm)
        leash = arm.servo.leash_rad
        for share in np.linspace(0, 1, 60):
            now = bench.data.qpos[bench.columns]
            bench.command(np.clip(home + share * (posture - home), now - leash, now + leash))
            for _ in bench.steps(0.05):
                assert bench.lowest_m(bench.bodies) > -0.005
            touched |= set().union(*bench.touching())
    assert touched & bench.links


@primitive_arms
def test_a_thing_in_a_links_way_is_pushed(arm):
    """A box beside the forearm, which swings about the upright axis."""
    middle, way = Bench(arm).forearm()
    bench = Bench(arm, middle + 0.15 * way)
    met = set()
    for angle in np.linspace(0, 0.8, 60):
        bench.command((arm.home_rad[0] + angle, *arm.home_rad[1:]))
        for _ in bench.steps(0.05):
            met |= set().union(*(pair for pair in bench.touching() if bench.thing in pair))
    assert met & bench.links and not met & {bench.hand, *bench.pads}
    assert (bench.data.xpos[bench.thing] - middle) @ way > 0.18
    middle, way = bench.forearm()
    assert (bench.data.xpos[bench.thing] - middle) @ way > 0.04  # still before it


@primitive_arms
def test_no_motor_gives_more_than_its_torque(arm):
    """The forearm against a box that stands fast, the command far ahead, while the other joints are shaken."""
    middle, way = Bench(arm).forearm()
    bench = Bench(arm, middle + 0.15 * way, fixed=True)
    model, data = bench.model, bench.data
    motors = [model.actuator(arm.prefix + joint).id for joint in arm.joints]
    limit, most = np.array(TORQUES_NM[arm.name]), np.zeros(len(motors))
    for angle in np.linspace(0, 0.8, 60):
        shake = 0.03 * np.sin(40 * angle + np.arange(len(motors)))
        shake[0] = angle
        bench.command(np.array(arm.home_rad) + shake)
        for _ in bench.steps(0.05):
            most = np.maximum(most, np.abs(data.actuator_force[motors]))
            assert (np.abs(data.qfrc_actuator[bench.columns]) <= limit).all()  # the arm's weight included
    assert (most <= limit).all() and most[0] == limit[0]
    assert data.qpos[bench.columns[0]] < arm.home_rad[0] + 0.6  # it was held up


@primitive_arms
def test_an_arm_never_touches_itself(arm):
    """In no posture within the limits, be it folded into itself."""
    bench = Bench(arm)
    bench.model.geom(TABLE_TOP).contype = bench.model.geom(TABLE_TOP).conaffinity = 0
    for posture in bench.postures(500, seed=1):
        bench.data.qpos[bench.columns] = posture
        bench.data.qpos[bench.fingers] = 0.0
        mujoco.mj_fwdPosition(bench.model, bench.data)
        assert not [pair for pair in bench.touching() if pair <= bench.bodies]
