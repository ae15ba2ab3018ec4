"""Suites that run in a Python of their own: vla suite install libero --assets FOLDER, or install maniskill, makes it.

LIBERO's package has no meshes, textures and scenes: FOLDER is LIBERO's own libero/libero/assets, or a copy of the
data set lerobot/libero-assets. ManiSkill brings what its tasks here need, but draws with Vulkan: on a machine without
a GPU one in software that is newer than Debian 12 has, which is unpacked beside it. vla suite list says what there is
and what is missing; vla suite check plays every task, of LIBERO those of the four suites that are reported from each of
their initial states. docs/libero.md and docs/suites.md say how they are played here.
"""

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Literal

import tyro

REPORTED = ("libero-spatial", "libero-object", "libero-goal", "libero-10")
SETTINGS = {
    ("libero", "install"): ("folder", "assets", "stand_ins", "python"),
    ("maniskill", "install"): ("folder", "python"),
    ("libero", "list"): (),
    ("maniskill", "list"): (),
    ("libero", "check"): ("tasks", "workers", "json"),
    ("maniskill", "check"): ("tasks", "workers", "json"),
}
"""What each action heeds for each simulator."""


@dataclass(frozen=True, kw_only=True)
class Config:
    """What to do with which suite."""

    action: Annotated[Literal["install", "list", "check"], tyro.conf.Positional]
    """install: make the Python environment, or complete it. list: say what is installed and what is missing. check:
    play its tasks and print a table."""
    suite: Annotated[Literal["libero", "maniskill"], tyro.conf.Positional] = "libero"
    """The simulator that the suites are of."""
    folder: Path | None = None
    """install: where the environment goes; by default ~/.cache/vla-stack/suites/SUITE. For another one set
    VLA_LIBERO_PYTHON or VLA_MANISKILL_PYTHON to its bin/python afterwards."""
    assets: Path | None = None
    """install libero: the folder of LIBERO's assets, which is linked to and must stay; by default the one that
    VLA_LIBERO_ASSETS names."""
    stand_ins: bool = False
    """install libero: let a plain grey picture stand for each texture that is missing. Tasks can be played then, and
    policies that look are not comparable with others'."""
    python: Path = Path(sys.executable)
    """install: the Python to make the environment with, 3.11 or 3.12. pip's own variables choose where packages come
    from, such as PIP_EXTRA_INDEX_URL for a build of torch without CUDA."""
    tasks: tuple[str, ...] = ()
    """check: suites or tasks; by default all that are reported of LIBERO, and all of ManiSkill."""
    workers: int = 2
    """check: processes at a time."""
    json: Path | None = None
    """check: also write the table to this file."""

    def __post_init__(self) -> None:
        heeded = SETTINGS[self.suite, self.action]
        for setting in fields(self):
            if setting.name not in ("action", "suite", *heeded) and getattr(self, setting.name) != setting.default:
                raise ValueError(
                    f"suite {self.action} {self.suite} has no {setting.name}; "
                    f"it has {', '.join(heeded) or 'no settings'}"
                )
        if self.workers < 1:
            raise ValueError(f"workers must be at least 1, got {self.workers}")


def run(config: Config) -> int:
    """Do what was asked; 1 where something is missing or a task cannot be played."""
    return ACTIONS[config.suite, config.action](config)


def _install_libero(config: Config) -> int:
    from configs.suite_install import ASSETS_VARIABLE, find_assets, install_libero
    from envs.simulators.libero import libero_folder
    from envs.simulators.own_python import python_of

    assets = find_assets(config.assets)
    folder = (config.folder or libero_folder()).expanduser().absolute()
    missing = install_libero(folder, config.python, assets, config.stand_ins)
    if config.folder is not None:
        print(f"to use it: export VLA_LIBERO_PYTHON={python_of(folder)}")
    if not missing:
        print("LIBERO is installed")
        return 0
    for line in missing:
        print(line)
    if assets is None:
        print(f"run vla suite install libero --assets FOLDER, or set {ASSETS_VARIABLE}")
    else:
        print("tasks that show these files cannot be made; --stand-ins has plain grey textures stand for them")
    return 1


def _list_libero(config: Config) -> int:
    from envs.simulators.libero import LIBERO_SUITES, installed_versions, libero_folder, what_is_missing

    folder = libero_folder()
    for suite in LIBERO_SUITES.values():
        print(f"{suite.name:<16}{suite.count:>3} tasks, {suite.max_episode_steps} steps: {suite.about}")
    return _print_state(folder, installed_versions(folder), what_is_missing(folder))


def _print_state(folder: Path, versions: Mapping[str, str], missing: Sequence[str]) -> int:
    """What is installed in ``folder``, and what is missing; 1 if anything is."""
    known = ", ".join(f"{name} {version}" for name, version in versions.items())
    print(f"\n{folder}: {known or 'nothing'}")
    print("\n".join(missing) or "installed")
    return 1 if missing else 0


def _check_libero(config: Config) -> int:
    from configs.suite_check import TaskCheck, check_task
    from envs.simulators.libero import check_libero, libero_provenance, libero_task_names

    def line(each: TaskCheck) -> str:
        return (
            f"{each.task:<19}{each.made_s:>7.1f}{f'{each.resets}/{each.init_states}':>8}{1e3 * each.reset_s:>10.0f}"
            f"{each.steps_per_s:>9.1f}{100 * each.rose_m:>9.1f}{each.picture_s:>8.2f}  "
            f"{each.problem or each.instruction}"
        )

    tasks = libero_task_names(config.tasks or REPORTED)
    check_libero()
    heads = (
        f"{'task':<19}{'make s':>7}{'states':>8}{'reset ms':>10}{'steps/s':>9}{'rose cm':>9}{'look s':>8}  instruction"
    )
    return _print_checks(config, check_task, tasks, heads, line, {"libero": libero_provenance()})


def _print_checks(
    config: Config,
    check: Callable[[str], Any],
    tasks: Sequence[str],
    heads: str,
    line: Callable[[Any], str],
    about: Mapping[str, Any],
) -> int:
    """Check the tasks and print a line of each; 1 unless all can be played."""
    from configs.machine import check_output_file
    from configs.run_directory import write_json
    from configs.suite_check import beside_each_other

    if config.json is not None:
        check_output_file(config.json)
    print(heads)
    results = []
    for each in beside_each_other(check, tasks, config.workers):
        results.append(each)
        print(line(each), flush=True)
    good = sum(not each.problem for each in results)
    print(f"{good} of {len(results)} tasks can be played")
    if config.json is not None:
        write_json({**about, "tasks": [asdict(each) for each in results]}, config.json)
    return 0 if good == len(results) else 1


def _install_maniskill(config: Config) -> int:
    from configs.maniskill_install import install_maniskill
    from envs.simulators.maniskill import PYTHON_VARIABLE, maniskill_folder
    from envs.simulators.own_python import python_of

    folder = (config.folder or maniskill_folder()).expanduser().absolute()
    missing = install_maniskill(folder, config.python)
    if config.folder is not None:
        print(f"to use it: export {PYTHON_VARIABLE}={python_of(folder)}")
    print("\n".join(missing) or "ManiSkill is installed")
    return 1 if missing else 0


def _list_maniskill(config: Config) -> int:
    from envs.simulators.maniskill import TASKS, installed_versions, maniskill_folder, what_maniskill_lacks

    folder = maniskill_folder()
    for task in TASKS:
        about = f"{task.robot}{', demonstrated' if task.expert else ''}"
        print(f"{task.name:<45}{task.max_episode_steps:>5} steps, {about}: {task.goal}")
    return _print_state(folder, installed_versions(folder), what_maniskill_lacks(folder))


def _check_maniskill(config: Config) -> int:
    from configs.maniskill_check import ManiSkillCheck, check_maniskill_task
    from envs.simulators.maniskill import check_maniskill, maniskill_provenance, maniskill_task_names

    def line(each: ManiSkillCheck) -> str:
        return (
            f"{each.task:<45}{each.made_s:>7.1f}{each.reset_s:>9.2f}{each.steps_per_s:>9.1f}{each.picture_s:>8.2f}  "
            f"{each.problem or each.robot}"
        )

    tasks = maniskill_task_names(config.tasks or ("maniskill",))
    check_maniskill()
    heads = f"{'task':<45}{'make s':>7}{'reset s':>9}{'steps/s':>9}{'look s':>8}  robot"
    return _print_checks(config, check_maniskill_task, tasks, heads, line, {"maniskill": maniskill_provenance()})


ACTIONS: dict[tuple[str, str], Callable[[Config], int]] = {
    ("libero", "install"): _install_libero,
    ("libero", "list"): _list_libero,
    ("libero", "check"): _check_libero,
    ("maniskill", "install"): _install_maniskill,
    ("maniskill", "list"): _list_maniskill,
    ("maniskill", "check"): _check_maniskill,
}
