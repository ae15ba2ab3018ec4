"""Which format a dataset has, told by what lies there, and its reader."""

import importlib.util
from collections.abc import Sequence
from pathlib import Path

from policies.data.layout import DatasetError
from policies.data.sources.source import Source

EXPECTED = (
    "a LeRobotDataset's folder (v3.0 or v2.1), an HDF5 file of robomimic or ManiSkill, or a replay buffer of "
    "diffusion_policy (a folder or .zarr.zip)"
)
HDF5_SUFFIXES = (".hdf5", ".h5")


def is_lerobot(path: Path) -> bool:
    """Whether there is a dataset of LeRobot's at ``path``."""
    return (path / "meta" / "info.json").is_file()


def is_foreign(path: Path) -> bool:
    """Whether what lies at ``path`` is someone else's, by its outside."""
    from policies.data.sources.diffusion_policy import is_replay_buffer

    return is_lerobot(path) or path.suffix in HDF5_SUFFIXES or is_replay_buffer(path)


def open_source(path: Path) -> Source:
    """A reader of the dataset at ``path``; ``DatasetError`` for what is none, or damaged.

    ``ModuleNotFoundError`` says which extra to install for a format whose library is not there.
    """
    from policies.data.sources.diffusion_policy import ReplayBuffer, is_replay_buffer

    if not path.exists():
        raise DatasetError(f"{path} does not exist: expected {EXPECTED}")
    if is_lerobot(path):
        need("lerobot", "LeRobot's format", ("pyarrow", "av"))
        from policies.data.lerobot.source import LeRobotSource

        return LeRobotSource.at(path)
    if path.suffix in HDF5_SUFFIXES:
        return _hdf5(path)
    if is_replay_buffer(path):
        return ReplayBuffer(path)
    raise DatasetError(f"{path} is no dataset that can be read: expected {EXPECTED}")


def need(extra: str, what: str, modules: Sequence[str]) -> None:
    """``ModuleNotFoundError`` that names the extra, unless all of these modules are installed."""
    if missing := [name for name in modules if importlib.util.find_spec(name) is None]:
        text = f"{what} needs {' and '.join(missing)}: pip install 'vla-stack[{extra}]'"
        raise ModuleNotFoundError(text, name=missing[0])


def _hdf5(path: Path) -> Source:
    need("hdf5", "HDF5", ("h5py",))
    from policies.data.sources.hdf5 import open_file
    from policies.data.sources.maniskill import ManiSkillFile, is_maniskill
    from policies.data.sources.robomimic import RobomimicFile, is_robomimic

    with open_file(path) as file:
        kinds = is_robomimic(file), is_maniskill(file)
        groups = list(file)[:5]
    if kinds == (True, False):
        return RobomimicFile(path)
    if kinds == (False, True):
        return ManiSkillFile(path)
    raise DatasetError(f"{path}: expected robomimic's group data or ManiSkill's traj_0, …, got {groups}")
