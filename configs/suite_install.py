"""Makes the Python environment that LIBERO runs in, and says exactly what it lacks."""

import os
import subprocess
from collections.abc import Sequence
from pathlib import Path

from envs.simulators.libero import (
    ASSETS_FOLDER,
    CONFIG_FILE,
    libero_simulator,
    what_is_missing,
)
from envs.simulators.libero_assets import Assets, assemble_assets, check_assets
from envs.simulators.own_python import python_of

ASSETS_VARIABLE = "VLA_LIBERO_ASSETS"
REQUIREMENTS = Path(__file__).resolve().parent.parent / "envs" / "simulators" / "libero_requirements.txt"
TORCH = "torch==2.13.0"
"""LIBERO reads its initial states with it. Its own dependencies are installed too, unlike those of the others."""
_TRY = "from libero.libero import benchmark; from libero.libero.envs.env_wrapper import ControlEnv"
_SAID_LINES = 8


def find_assets(given: Path | None) -> Path | None:
    """The folder of LIBERO's assets: the one that is given, or that the environment variable names.

    ``ValueError`` where it is none.
    """
    named = os.environ.get(ASSETS_VARIABLE)
    source = given or (Path(named) if named else None)
    if source is None:
        return None
    source = source.expanduser().absolute()
    check_assets(source)
    return source


def install_libero(folder: Path, python: Path, assets: Path | None, stand_ins: bool) -> list[str]:
    """Make the environment, or complete the one that is there; what is still missing, in sentences.

    ``RuntimeError`` with the last lines of what a command said that failed.
    """
    if not python_of(folder).is_file():
        print(f"making a Python environment in {folder}")
        _run([str(python), "-m", "venv", str(folder)])
    pip = [str(python_of(folder)), "-I", "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    print(f"installing LIBERO's packages, as pinned in {REQUIREMENTS.name}")
    _run([*pip, "--no-deps", "-r", str(REQUIREMENTS)])
    print(f"installing {TORCH}")
    _run([*pip, "-c", str(REQUIREMENTS), TORCH])
    if assets is not None:
        found = _assemble(folder, assets, stand_ins)
        if found.stand_ins:
            print(f"{len(found.stand_ins)} files stand in for LIBERO's own: pictures are not comparable with others'")
    write_libero_config(folder)
    simulator = libero_simulator(folder, limit_s=60.0)
    _run([str(simulator.python), "-I", "-c", _TRY], env={**os.environ, **simulator.variables})
    return what_is_missing(folder)


def write_libero_config(folder: Path) -> None:
    """Write what LIBERO would otherwise ask for on the terminal when it is first imported."""
    package = _site_packages(folder) / "libero" / "libero"
    places = {
        "benchmark_root": package,
        "bddl_files": package / "bddl_files",
        "init_states": package / "init_files",
        "datasets": folder / "datasets",
        "assets": folder / ASSETS_FOLDER,
    }
    lines = [f"{name}: {_quoted(place)}" for name, place in places.items()]
    (folder / CONFIG_FILE).write_text("\n".join(lines) + "\n", encoding="utf-8")


def _assemble(folder: Path, assets: Path, stand_ins: bool) -> Assets:
    textures = _site_packages(folder) / "robosuite" / "models" / "assets" / "textures"
    print(f"linking assets from {assets}")
    return assemble_assets(assets, textures, folder / ASSETS_FOLDER, stand_ins)


def _site_packages(folder: Path) -> Path:
    return next(folder.glob("lib/python3*/site-packages"))


def _quoted(path: Path) -> str:
    """A path as YAML."""
    return "'" + str(path).replace("'", "''") + "'"


def _run(command: Sequence[str], env: dict[str, str] | None = None) -> None:
    done = subprocess.run(command, check=False, stdin=subprocess.DEVNULL, capture_output=True, text=True, env=env)
    if done.returncode:
        said = "\n".join((done.stdout + done.stderr).strip().splitlines()[-_SAID_LINES:])
        raise RuntimeError(f"{' '.join(command)} failed with status {done.returncode}:\n{said}")
