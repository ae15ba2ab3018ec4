"""What a control step adds to MuJoCo Warp's own kernels: masks, divergence, and how full its stores became.

One thread per world unless said otherwise. Arrays are those of ``mujoco_warp.Data`` and buffers of the same shape.
"""

# Kernels are written in Warp's own language, which only looks like Python.
# pyright: reportGeneralTypeIssues=false, reportAssignmentType=false, reportCallIssue=false, reportArgumentType=false
# pyright: reportIndexIssue=false, reportOperatorIssue=false

import warp as wp

STATE_LIMIT = wp.constant(1.0e10)
"""A coordinate, velocity or acceleration beyond this counts as divergence, as in C MuJoCo."""

NEED_ROWS, NEED_CONTACTS = range(2)
"""Places in ``need``: most rows in a world, most contacts or candidate pairs in all."""
_ROWS, _CONTACTS = wp.constant(NEED_ROWS), wp.constant(NEED_CONTACTS)

LOSSES = wp.constant(~(1 << 8))
"""Flags of ``mujoco_warp.Data.overflow`` that mean lost contacts or rows: all but the one that says that the depth of a
penetration was found with fewer facets than asked for."""

wp.set_module_options({"enable_backward": False})


@wp.func
def _sound(x: float) -> bool:
    """False for a NaN too, since comparing one is always False."""
    return wp.abs(x) <= STATE_LIMIT


@wp.kernel
def set_command(active: wp.array[wp.bool], target: wp.array2d[float], ctrl: wp.array2d[float]) -> None:
    """``ctrl`` becomes ``target`` where active; a thread per world and actuator."""
    world, i = wp.tid()
    if active[world]:
        ctrl[world, i] = target[world, i]


@wp.kernel
def contain(
    qpos: wp.array2d[float],
    qvel: wp.array2d[float],
    qacc: wp.array2d[float],
    home: wp.array2d[float],
    act: wp.array2d[float],
    warmstart: wp.array2d[float],
    remember: bool,
    diverged: wp.array[wp.bool],
) -> None:
    """Flag worlds whose state is not sound and put them at rest in ``home``; ``remember`` makes sound ones their home.

    Contacts share one store, and a position that is not a number is near to everything: left alone, one such world
    would push out the contacts of the others.
    """
    world = wp.tid()
    wrong = wp.int32(0)  # a variable to Warp, which a bare 0 is not
    for i in range(qpos.shape[1]):
        if not _sound(qpos[world, i]):
            wrong += 1
    for i in range(qvel.shape[1]):
        if not (_sound(qvel[world, i]) and _sound(qacc[world, i])):
            wrong += 1
    if wrong == 0:
        if remember:
            for i in range(qpos.shape[1]):
                home[world, i] = qpos[world, i]
        return
    diverged[world] = True
    for i in range(qpos.shape[1]):
        qpos[world, i] = home[world, i]
    for i in range(qvel.shape[1]):
        qvel[world, i] = 0.0
        warmstart[world, i] = 0.0
    for i in range(act.shape[1]):
        act[world, i] = 0.0


@wp.kernel
def measure(
    nefc: wp.array[int],
    ncollision: wp.array[int],
    nacon: wp.array[int],
    overflow: wp.array[int],
    need: wp.array[int],
    crowded: wp.array[wp.bool],
) -> None:
    """Keep the largest counts seen so far (the engine counts on beyond its limits), and note who lost something."""
    world = wp.tid()
    wp.atomic_max(need, _ROWS, nefc[world])
    if world == 0:
        wp.atomic_max(need, _CONTACTS, wp.max(ncollision[0], nacon[0]))
    if (overflow[world] & LOSSES) != 0:
        crowded[world] = True


@wp.kernel
def choose_kept(
    active: wp.array[wp.bool],
    diverged: wp.array[wp.bool],
    crowded: wp.array[wp.bool],
    kept: wp.array[wp.bool],
) -> None:
    """Which worlds keep the state from before the step."""
    world = wp.tid()
    kept[world] = diverged[world] or crowded[world] or not active[world]


@wp.kernel
def find_touches(
    nacon: wp.array[int],
    distance: wp.array[float],
    margin: wp.array[float],
    geoms: wp.array[wp.vec2i],
    worlds: wp.array[int],
    ones: wp.array2d[int],
    others: wp.array2d[int],
    touches: wp.array2d[int],
) -> None:
    """Set a bit of ``touches`` for each sensor that a contact is between; a thread per contact.

    ``ones`` and ``others`` are, by geom, the bits of the sensors that have it on their one and on their other side.
    """
    i = wp.tid()
    if i >= nacon[0]:
        return
    if distance[i] >= margin[i]:
        return
    a = geoms[i][0]
    b = geoms[i][1]
    for word in range(ones.shape[1]):
        found = (ones[a, word] & others[b, word]) | (ones[b, word] & others[a, word])
        if found != 0:
            wp.atomic_or(touches, worlds[i], word, found)


@wp.kernel
def renew(kept: wp.array[wp.bool], fresh: wp.array2d[int], current: wp.array2d[int]) -> None:
    """``current`` becomes ``fresh`` where not kept; a thread per world and word."""
    world, i = wp.tid()
    if not kept[world]:
        current[world, i] = fresh[world, i]


@wp.kernel
def restore(kept: wp.array[wp.bool], saved: wp.array2d[float], current: wp.array2d[float]) -> None:
    """``current`` becomes ``saved`` where kept; a thread per world and coordinate."""
    world, i = wp.tid()
    if kept[world]:
        current[world, i] = saved[world, i]


@wp.kernel
def place_static_geoms(
    geoms: wp.array[int],
    geom_bodyid: wp.array[int],
    geom_pos: wp.array2d[wp.vec3],
    geom_quat: wp.array2d[wp.quat],
    xpos: wp.array2d[wp.vec3],
    xmat: wp.array2d[wp.mat33],
    geom_xpos: wp.array2d[wp.vec3],
    geom_xmat: wp.array2d[wp.mat33],
) -> None:
    """World poses of ``geoms``; a thread per world and geom.

    MuJoCo Warp computes those of geoms fixed to the world once, when its data is made. Quaternions are wxyz in
    Warp's xyzw slots, as MuJoCo Warp keeps them.
    """
    world, i = wp.tid()
    geom = geoms[i]
    body = geom_bodyid[geom]
    q = geom_quat[world % geom_quat.shape[0], geom]
    turn = wp.quat_to_matrix(wp.normalize(wp.quat(q[1], q[2], q[3], q[0])))
    rotation = xmat[world, body]
    geom_xpos[world, geom] = xpos[world, body] + rotation * geom_pos[world % geom_pos.shape[0], geom]
    geom_xmat[world, geom] = rotation * turn
