"""Scripted demonstrators for robosuite's tasks: functions of the simulator's present state, so that they recover.

Each takes a robosuite environment and gives an action in our units: metres, a rotation vector (rad), and the gripper,
0 open … 1 closed. Positions are in the world; robosuite's bases stand parallel to it.
"""

from collections.abc import Callable
from typing import Any

import numpy as np
from jaxtyping import Float
from scipy.spatial.transform import Rotation

Vector = Float[np.ndarray, " 3"]
Matrix = Float[np.ndarray, "3 3"]
OPEN, CLOSED = 0.0, 1.0
_GAIN, _TURN_GAIN = 3.0, 1.5
"""How much of what is missing is asked for per step: robosuite's controller reaches a part of it."""
_MOST_M, _MOST_RAD = 0.05, 0.5
_REACH_M, _NEARER_M = 0.82, np.array([0.03, 0.04])
"""How far from its base the arm is still at ease, and where in a compartment beyond that it lets go of things."""
_LEVER_M = 0.1
"""How far the door's lever stands off the middle of its panel."""
_DOWN = np.array([0.0, 0.0, -1.0])


def lift(env: Any) -> Float[np.ndarray, " 7"]:
    """Grasp the cube between two of its faces and raise it."""
    cube, turned = _body(env, env.cube_body_id)
    fingers = _nearest_axis(env, turned, quarter_turns=True)
    if _holds(env, env.cube):
        return _toward(env, _tool(env)[0] + _up(0.1), fingers, CLOSED)
    return _grasp(env, cube, fingers)


def stack(env: Any) -> Float[np.ndarray, " 7"]:
    """Put cube A onto cube B."""
    a, turned = _body(env, env.cubeA_body_id)
    b, _ = _body(env, env.cubeB_body_id)
    fingers = _nearest_axis(env, turned, quarter_turns=True)
    tool, _ = _tool(env)
    off = np.linalg.norm(a[:2] - b[:2])
    if not _holds(env, env.cubeA):
        on_top = off < 0.02 and a[2] - b[2] > 0.03
        return _toward(env, tool + _up(0.05), fingers, OPEN) if on_top else _grasp(env, a, fingers)
    height = a[2] - b[2]
    if off > 0.008:
        level = tool[2] + (b[2] + 0.09 - a[2])
        beside = tool[:2] if height < 0.06 and off > 0.02 else tool[:2] + b[:2] - a[:2]
        return _toward(env, np.array([*beside, level]), fingers, CLOSED)
    if height > 0.047:
        return _toward(env, tool + np.array([*(b[:2] - a[:2]), 0.045 - height]), fingers, CLOSED)
    return _toward(env, tool, fingers, OPEN)


def pick_place(env: Any) -> Float[np.ndarray, " 7"]:
    """Carry the object that is asked for into its compartment, as far in as the arm reaches well, and let go of it."""
    thing = env.objects[env.object_id]
    where, turned = _body(env, env.obj_body_id[thing.name])
    fingers = _nearest_axis(env, turned, quarter_turns=False)
    goal = env.target_bin_placements[env.object_id].copy()
    if np.linalg.norm(goal[:2] - env.robots[0].base_pos[:2]) > _REACH_M:
        goal[:2] -= _NEARER_M
    tool, _ = _tool(env)
    off = np.linalg.norm(where[:2] - goal[:2])
    if not _holds(env, thing):
        if off < 0.06:
            return _toward(env, tool + _up(0.1), fingers, OPEN)
        return _grasp(env, where, fingers)
    carried = tool - where
    if off > 0.03:
        beside = where[:2] if where[2] < goal[2] + 0.14 and off > 0.1 else goal[:2]
        return _toward(env, np.array([*beside, goal[2] + 0.17]) + carried, fingers, CLOSED)
    if where[2] > goal[2] + 0.08:
        return _toward(env, np.array([*goal[:2], goal[2] + 0.06]) + carried, fingers, CLOSED)
    return _toward(env, tool, fingers, OPEN)


def nut_assembly(env: Any) -> Float[np.ndarray, " 7"]:
    """Take the nut by its handle and put it over its peg."""
    nut = env.nuts[env.nut_id]
    where, turned = _body(env, env.obj_body_id[nut.name])
    handle = env.sim.data.site_xpos[env.sim.model.site_name2id(nut.important_sites["handle"])].copy()
    peg, _ = _body(env, (env.peg1_body_id, env.peg2_body_id)[env.nut_id])
    across = turned[:2, 1] / np.linalg.norm(turned[:2, 1])
    tool, tool_axes = _tool(env)
    held = _fingers(tool_axes)
    across = across if across @ held > 0 else -across
    if not _holds(env, nut):
        return _grasp(env, handle, across)
    # The nut is square: four ways round fit. The nearest is taken of those whose handle does not point out of reach.
    angle = np.arctan2(turned[1, 0], turned[0, 0])
    ways = np.array([np.pi / 2, np.pi, -np.pi / 2])
    turns = (ways - angle + np.pi) % (2 * np.pi) - np.pi
    missing = turns[np.abs(turns).argmin()]
    wanted = _turned(held, np.clip(missing, -0.3, 0.3))
    off = peg[:2] - where[:2]
    table = env.table_offset[2]
    beside = np.linalg.norm(off)
    if (beside < 0.006 and abs(missing) < 0.08) or (where[2] < table + 0.12 and beside < 0.01):
        return _toward(env, tool + np.array([*off, -0.05]), wanted, CLOSED)
    raised = where[2] > table + 0.15
    way = off if raised else 0 * off
    return _toward(env, tool + np.array([*way, table + 0.2 - where[2]]), wanted, CLOSED)


def door(env: Any) -> Float[np.ndarray, " 7"]:
    """Press the lever down with a finger and draw the door ajar; then grasp the hub, and pull.

    The hand is too wide to take the lever from before and behind: the panel is in its way. So its fingers lie along the
    lever, the inner one on it, while the hand passes beside the hub.
    """
    latch, _ = _body(env, env.object_body_ids["latch"])
    _, door_axes = _body(env, env.object_body_ids["door"])
    outward, along = -door_axes[:, 1], door_axes[:, 0]
    tool, axes = _tool(env)
    fingers = along[:2] if along[:2] @ _fingers(axes) > 0 else -along[:2]
    turned, opened = (env.sim.data.qpos[address] for address in (env.handle_qpos_addr, env.hinge_qpos_addr))
    above = latch + outward * _LEVER_M + along * 0.125
    off = (tool - above) @ outward
    near = abs(off) < 0.035 and tool[2] < above[2] + 0.05
    if near and turned > 0.8 and opened < 0.08:
        return _toward(env, np.array([*(above + outward * (off + 0.05))[:2], tool[2] - 0.03]), fingers, OPEN)
    if opened > 0.03:
        return _pull_shaft(env, latch + outward * _LEVER_M, outward, fingers)
    if near:
        return _toward(env, np.array([*above[:2], tool[2] - 0.04]), fingers, OPEN)
    aside = np.linalg.norm((above - tool)[:2])
    return _toward(env, above + _up(0.12 if aside > 0.015 else 0.03), fingers, OPEN)


def _pull_shaft(env: Any, shaft: Vector, outward: Vector, fingers: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 7"]:
    """Grasp the hub of the lever, the end of its shaft, from above, and pull."""
    tool, _ = _tool(env)
    gap = np.abs(env.sim.data.qpos[env.robots[0]._ref_gripper_joint_pos_indexes["right"]]).sum()
    aside = np.linalg.norm((shaft - tool)[:2])
    low = tool[2] < shaft[2] + 0.02
    if low and aside < 0.05 and gap < 0.06:
        return _toward(env, np.array([*(tool + outward * 0.03)[:2], shaft[2] + 0.005]), fingers, CLOSED)
    if low and aside < 0.02:
        return _toward(env, shaft + _up(0.005), fingers, CLOSED)
    if aside > 0.015 and tool[2] < shaft[2] + 0.07:
        return _toward(env, np.array([*tool[:2], shaft[2] + 0.12]), fingers, OPEN)
    return _toward(env, shaft + _up(0.1 if aside > 0.015 else 0.005), fingers, OPEN)


EXPERTS: dict[str, Callable[[Any], Float[np.ndarray, " 7"]]] = {
    "Lift": lift,
    "Stack": stack,
    "Door": door,
    "NutAssemblySquare": nut_assembly,
    "NutAssemblyRound": nut_assembly,
    **dict.fromkeys(("PickPlaceCan", "PickPlaceMilk", "PickPlaceBread"), pick_place),
}
"""By robosuite's names."""


def _grasp(env: Any, where: Vector, fingers: Float[np.ndarray, " 2"]) -> Float[np.ndarray, " 7"]:
    """Go above a point, down to it with open fingers, and close them there."""
    tool, axes = _tool(env)
    aside = np.linalg.norm(where[:2] - tool[:2])
    askew = 1 - abs(_fingers(axes) @ fingers / np.linalg.norm(fingers))
    aligned = aside < 0.01 and askew < 0.01
    if not aligned and not (aside < 0.02 and tool[2] < where[2] + 0.02):
        return _toward(env, where + _up(0.1), fingers, OPEN)
    return _toward(env, where, fingers, CLOSED if tool[2] < where[2] + 0.01 else OPEN)


def _toward(env: Any, target: Vector, fingers: Float[np.ndarray, " 2"], gripper: float) -> Float[np.ndarray, " 7"]:
    """One step toward a place, the tool pointing down and its fingers side by side along a horizontal direction."""
    where, axes = _tool(env)
    along = np.array([*fingers, 0.0]) / np.linalg.norm(fingers)
    wanted = np.stack((along, np.cross(_DOWN, along), _DOWN), 1)
    turn = Rotation.from_matrix(wanted @ axes.T).as_rotvec()
    way = np.asarray(target) - where
    return np.concatenate((_limited(_GAIN * way, _MOST_M), _limited(_TURN_GAIN * turn, _MOST_RAD), [gripper]))


def _up(height_m: float) -> Vector:
    return np.array([0.0, 0.0, height_m])


def _limited(vector: Vector, most: float) -> Vector:
    """No component greater than ``most``, the direction kept."""
    return vector / max(1.0, np.abs(vector).max() / most)


def _holds(env: Any, thing: Any) -> bool:
    return bool(env._check_grasp(gripper=env.robots[0].gripper, object_geoms=thing))


def _tool(env: Any) -> tuple[Vector, Matrix]:
    site = env.robots[0].eef_site_id["right"]
    return env.sim.data.site_xpos[site].copy(), env.sim.data.site_xmat[site].reshape(3, 3).copy()


def _body(env: Any, body: int) -> tuple[Vector, Matrix]:
    return env.sim.data.body_xpos[body].copy(), env.sim.data.body_xmat[body].reshape(3, 3).copy()


def _fingers(axes: Matrix) -> Float[np.ndarray, " 2"]:
    """The horizontal direction in which the fingers lie side by side: the x axis of the tool's frame."""
    return axes[:2, 0] / np.linalg.norm(axes[:2, 0])


def _turned(direction: Float[np.ndarray, " 2"], angle_rad: float) -> Float[np.ndarray, " 2"]:
    cos, sin = np.cos(angle_rad), np.sin(angle_rad)
    return np.array([[cos, -sin], [sin, cos]]) @ direction


def _nearest_axis(env: Any, turned: Matrix, quarter_turns: bool) -> Float[np.ndarray, " 2"]:
    """The horizontal axis of a body, x or y, or x alone without ``quarter_turns``, that needs the least turning."""
    held = _fingers(_tool(env)[1])
    flat = [turned[:2, i] for i in range(3) if np.linalg.norm(turned[:2, i]) > 0.7]
    if not flat:
        return held
    axes = [axis / np.linalg.norm(axis) for axis in (flat if quarter_turns else flat[:1])]
    return max((sign * axis for axis in axes for sign in (1, -1)), key=lambda axis: axis @ held)
