"""Makes the Python environment that ManiSkill runs in, with a Vulkan that can draw it."""

import os
import shutil
from pathlib import Path

from configs.vulkan_driver import machine_s_drivers, run, unpack_driver, use_machine_s, why_not_unpacked
from envs.simulators.maniskill import (
    DRIVER_FOLDER,
    TRIED_FILE,
    maniskill_simulator,
    render_backend,
    what_maniskill_lacks,
)
from envs.simulators.own_python import python_of

REQUIREMENTS = Path(__file__).resolve().parent.parent / "envs" / "simulators" / "maniskill_requirements.txt"
GPU = Path("/dev/nvidiactl")
"""There where NVIDIA's driver is."""
_DRAW = """
import gymnasium, mani_skill.envs, numpy, sys
env = gymnasium.make("PushCube-v1", obs_mode="rgb", render_backend=sys.argv[1], num_envs=1)
seen, _ = env.reset(seed=0)
sys.exit(0 if numpy.ptp(seen["sensor_data"]["base_camera"]["rgb"].cpu().numpy()) > 32 else "the picture is blank")
"""


def install_maniskill(folder: Path, python: Path) -> list[str]:
    """Make the environment, or complete the one that is there; what is still missing, in sentences.

    ``RuntimeError`` with the last lines of what a command said that failed.
    """
    if not python_of(folder).is_file():
        print(f"making a Python environment in {folder}")
        run([str(python), "-m", "venv", str(folder)])
    print(f"installing ManiSkill's packages, as pinned in {REQUIREMENTS.name}")
    pip = [str(python_of(folder)), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    run([*pip, "-r", str(REQUIREMENTS)])
    return [*find_what_draws(folder), *what_maniskill_lacks(folder)]


def find_what_draws(folder: Path) -> list[str]:
    """Draw with a GPU, what is unpacked here, the machine's own software Vulkan, or Debian's; why none did."""
    driver, refused = folder / DRIVER_FOLDER, []
    if driver.is_dir():
        tried = folder / TRIED_FILE
        called = tried.read_text(encoding="utf-8") if tried.is_file() else f"what was unpacked in {driver}"
        if not (why := _draws(folder, called)):
            return []
        refused.append(f"what is unpacked in {driver} does not draw: {why}")
    elif GPU.exists():
        if not (why := _draws(folder, "the machine's GPU")):
            return []
        refused.append(f"the GPU does not draw: {why}")
    for description in machine_s_drivers():
        if not (why := _draws(folder, use_machine_s(description, driver))):
            return []
        refused.append(f"{description} does not draw: {why}")
        shutil.rmtree(driver)
    if why := why_not_unpacked():
        wanted = "a newer one (Mesa 25.0.7 is known to do, 22.3.6 is not) has to be installed"
        return [*refused, f"no newer Vulkan can be unpacked here: {why}; {wanted}"]
    print("unpacking Mesa's lavapipe of Debian's backports")
    if not (why := _draws(folder, unpack_driver(driver))):
        return []
    return [*refused, f"Mesa of Debian's backports does not draw: {why}"]


def _draws(folder: Path, called: str) -> str:
    """Draw a picture, and note what drew it; why not, or nothing where it did."""
    simulator = maniskill_simulator(folder, limit_s=60.0)
    command = [str(simulator.python), "-I", "-c", _DRAW, render_backend(folder)]
    try:
        run(command, env={**os.environ, **simulator.variables})
    except RuntimeError as error:
        (folder / TRIED_FILE).unlink(missing_ok=True)
        return str(error).splitlines()[-1]
    (folder / TRIED_FILE).write_text(called, encoding="utf-8")
    return ""
