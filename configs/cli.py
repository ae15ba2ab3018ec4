"""The ``vla`` command: finds the verb, reads its settings, runs it, and says plainly what went wrong.

A verb is a module in ``configs.commands`` with a frozen dataclass ``Config`` and ``run(config) -> exit status``.
It may have ``presets()``, complete configs by name to choose from, ``resume(config, run_dir)``, and ``arguments(args)``
that rewrites its command line. Only the verb that is called is imported.
"""

import difflib
import importlib
import math
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from configs.terminal import ending_with_the_reader, print_anything, streams_without_reader

VERBS = {
    "quickstart": "demonstrate, train, evaluate and report, all in one go",
    "collect": "record demonstrations of a task's scripted expert",
    "pretrain": "let a network learn to look and to tell, on rendered scenes",
    "ground": "show where a network that has learned to look sees a phrase, in pictures or on a rendered table",
    "train": "train a policy from demonstrations",
    "rl": "improve a policy by reward, in simulation",
    "reward": "train a reward, or see how far rewards can be trusted",
    "eval": "evaluate a checkpoint, a server, the expert or chance on unseen episodes",
    "compare": "compare two evaluations by the episodes that both have",
    "report": "one page that ranks several evaluations",
    "serve": "answer observations with actions over a WebSocket",
    "rollout": "drive a simulated robot through a policy server, in real time",
    "run": "drive a robot by a policy, watched and steered from a page",
    "info": "say what a model is made of, and about how much memory it needs",
    "dataset": "look into a dataset, remove episodes, split it, or exchange it with LeRobot",
    "suite": "install another project's simulator in a Python of its own, and check it",
    "bench": "run a benchmark of the checkout",
    "doctor": "say what works on this machine and how to mend the rest",
}
DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "VLA_DEBUG"
CONFIG_FLAG = "--config"
RESUME_FLAG = "--resume"
EXPLAINED_ERRORS = (ValueError, KeyError, OSError, RuntimeError, ModuleNotFoundError)
"""Errors whose message tells the user what to do; any other one is a fault of ours and keeps its traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status is 0, 1 (done, with a bad outcome), 2 (cannot be done), 130 (stopped) or
    141 (who read the output has left).
    """
    print_anything()
    with ending_with_the_reader():
        return _answer(list(sys.argv[1:] if argv is None else argv))


def _answer(given: list[str]) -> int:
    debug = DEBUG_FLAG in given or bool(os.environ.get(DEBUG_VARIABLE))
    args = [argument for argument in given if argument != DEBUG_FLAG]
    if not args or args[0] in ("-h", "--help"):
        print(overview())
        return 0
    verb, *rest = args
    if verb not in VERBS:
        return _complain(f"vla: {unknown_choice('verb', verb, VERBS)}")
    try:
        return run_verb(importlib.import_module(f"configs.commands.{verb}"), verb, rest)
    except KeyboardInterrupt:
        return _complain(f"vla {verb}: stopped", status=130)
    except EXPLAINED_ERRORS as error:
        if isinstance(error, BrokenPipeError) and streams_without_reader():
            raise
        if debug:
            traceback.print_exc()
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        return _complain(f"vla {verb}: {message}" + ("" if debug else f"\n({DEBUG_FLAG} shows where)"))


def run_verb(module: ModuleType, verb: str, args: Sequence[str]) -> int:
    """Read the verb's settings from ``args``, check what all verbs have in common, and run it.

    ``--config FILE`` starts from a saved config and ``--resume RUN_DIR`` continues a run; further flags override.
    """
    run_dir, args = take_flag(RESUME_FLAG, args)
    saved, args = take_flag(CONFIG_FLAG, args)
    if run_dir and not hasattr(module, "resume"):
        raise ValueError(f"vla {verb} has no {RESUME_FLAG}; {CONFIG_FLAG} FILE runs a saved config again")
    if run_dir and saved:
        raise ValueError(f"{RESUME_FLAG} and {CONFIG_FLAG} both say where the settings come from: give one of them")
    source = run_dir or saved
    if source and hasattr(module, "presets") and args and args[0] in module.presets():
        raise ValueError(f"the preset {args[0]} and {source} both say where the settings come from: leave one out")
    default = _saved(module, source) if source else None
    config = _settled(_parse(module, verb, args, default))
    return module.resume(config, Path(run_dir).expanduser()) if run_dir else module.run(config)


def take_flag(flag: str, args: Sequence[str]) -> tuple[str | None, list[str]]:
    """The value of ``flag`` among ``args``, as ``--flag VALUE`` or ``--flag=VALUE``, and the other arguments.

    What follows a ``--`` is left alone. ``ValueError`` if the value is missing, or the flag there twice.
    """
    rest, found = [], []
    ours = iter(args)
    for argument in ours:
        if argument == "--":
            rest += [argument, *ours]
        elif argument.partition("=")[0] != flag:
            rest.append(argument)
        else:
            value = argument.partition("=")[2] if "=" in argument else next(ours, "")
            if not value or (value.startswith("-") and "=" not in argument):
                raise ValueError(f"{flag} needs a path, got {value or 'nothing'}")
            found.append(value)
    if len(found) > 1:
        raise ValueError(f"{flag} may be given once, got {' and '.join(found)}")
    return (found[0] if found else None), rest


def overview() -> str:
    """What ``vla --help`` prints."""
    width = max(map(len, VERBS))
    lines = [f"  {verb:<{width}}  {text}" for verb, text in VERBS.items()]
    return "\n".join(
        [
            "usage: vla VERB [options]",
            "",
            *lines,
            "",
            "vla VERB --help lists every option of a verb.",
            f"vla VERB {CONFIG_FLAG} FILE runs a saved config again; further options override it.",
            f"vla train {RESUME_FLAG} RUN_DIR goes on with a run that was stopped, as vla pretrain, rl and eval do.",
            f"{DEBUG_FLAG}, or {DEBUG_VARIABLE}=1, shows the traceback of an error.",
        ]
    )


def unknown_choice(kind: str, given: str, expected: Sequence[str] | dict[str, Any]) -> str:
    """``unknown verb 'trian'; did you mean 'train'? expected one of …``"""
    near = difflib.get_close_matches(given, list(expected), n=1)
    hint = f" did you mean {near[0]!r}?" if near else ""
    return f"unknown {kind} {given!r};{hint} expected one of {', '.join(expected)}"


def _parse(module: ModuleType, verb: str, args: Sequence[str], default: Any = None) -> Any:
    import tyro

    if hasattr(module, "arguments"):
        args = module.arguments(args)
    about: dict[str, Any] = {"prog": f"vla {verb}", "description": _description(module), "args": args}
    if default is None and hasattr(module, "presets"):
        return tyro.extras.overridable_config_cli(module.presets(), **about)
    start = {} if default is None else {"default": default}
    return tyro.cli(module.Config, config=(tyro.conf.AvoidSubcommands,), **about, **start)


def _description(module: ModuleType) -> str:
    """What ``--help`` of a verb says on top: its docstring, and where settings may come from."""
    lines = [f"{CONFIG_FLAG} FILE starts from the settings of a saved run, which further options override."]
    if hasattr(module, "resume"):
        lines.append(f"{RESUME_FLAG} RUN_DIR goes on with a run that was stopped.")
    return f"{(module.__doc__ or '').strip()}\n\n{' '.join(lines)}"


def _settled(config: Any) -> Any:
    """The config with its paths led home; ``ValueError`` names a device that is not there, or a number not finite."""
    from configs.machine import check_device
    from configs.serialization import at_home, leaves

    for place, value in leaves(config):
        if place.rpartition(".")[2] == "device" and value is not None:
            try:
                check_device(value)
            except ValueError as error:
                raise ValueError(f"{place}: {error}") from None
        if isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{place}: expected a finite number, got {value}")
    return at_home(config)


def _saved(module: ModuleType, path: str) -> Any:
    from configs.run_directory import load_config

    return load_config(module.Config, Path(path).expanduser())


def _complain(message: str, status: int = 2) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
