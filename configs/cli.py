"""The ``vla`` command: finds the verb, reads its settings, runs it, and says plainly what went wrong.

A verb is a module in ``configs.commands`` with a frozen dataclass ``Config`` and ``run(config) -> exit status``.
It may have ``presets()``, complete configs by name to choose from, ``resume(config, run_dir)``, and ``arguments(args)``
that rewrites its command line. Only the verb that is called is imported.
"""

import difflib
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

VERBS = {
    "quickstart": "demonstrate, train, evaluate and report, all in one go",
    "collect": "record demonstrations of a task's scripted expert",
    "train": "train a policy from demonstrations",
    "eval": "evaluate a checkpoint, a server or the expert on unseen episodes",
    "serve": "answer observations with actions over a WebSocket",
    "rollout": "drive a simulated robot through a policy server, in real time",
    "dataset": "look into a dataset, remove episodes from it, or split it",
    "bench": "run a benchmark of the checkout",
    "doctor": "say what works on this machine and how to mend the rest",
}
DEBUG_FLAG = "--debug"
DEBUG_VARIABLE = "VLA_DEBUG"
EXPLAINED_ERRORS = (ValueError, KeyError, OSError, RuntimeError, ModuleNotFoundError)
"""Errors whose message tells the user what to do; any other one is a fault of ours and keeps its traceback."""


def main(argv: Sequence[str] | None = None) -> int:
    """Run one command line; the exit status is 0, 1 (done, with a bad outcome), 2 (cannot be done) or 130 (stopped)."""
    given = list(sys.argv[1:] if argv is None else argv)
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
        if debug:
            traceback.print_exc()
        message = error.args[0] if isinstance(error, KeyError) and error.args else error
        return _complain(f"vla {verb}: {message}" + ("" if debug else f"\n({DEBUG_FLAG} shows where)"))


def run_verb(module: ModuleType, verb: str, args: Sequence[str]) -> int:
    """Read the verb's settings from ``args`` and run it.

    ``--config FILE`` starts from a saved config and ``--resume RUN_DIR`` continues a run; further flags override.
    """
    if args[:1] == ["--resume"] and hasattr(module, "resume"):
        run_dir = Path(_value_of("--resume", args))
        return module.resume(_parse(module, verb, args[2:], default=_saved(module, run_dir)), run_dir)
    if args[:1] == ["--config"]:
        path = Path(_value_of("--config", args))
        return module.run(_parse(module, verb, args[2:], default=_saved(module, path)))
    return module.run(_parse(module, verb, args))


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
            "vla VERB --config FILE runs a saved config again; further options override it.",
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

    prog, markers = f"vla {verb}", (tyro.conf.AvoidSubcommands,)
    if hasattr(module, "arguments"):
        args = module.arguments(args)
    if default is not None:
        return tyro.cli(module.Config, prog=prog, args=args, default=default, config=markers)
    if hasattr(module, "presets"):
        return tyro.extras.overridable_config_cli(module.presets(), prog=prog, description=module.__doc__, args=args)
    return tyro.cli(module.Config, prog=prog, description=module.__doc__, args=args, config=markers)


def _saved(module: ModuleType, path: Path) -> Any:
    from configs.run_directory import load_config

    return load_config(module.Config, path)


def _value_of(flag: str, args: Sequence[str]) -> str:
    if len(args) < 2:
        raise ValueError(f"{flag} needs a path")
    return args[1]


def _complain(message: str, status: int = 2) -> int:
    print(message, file=sys.stderr)
    return status


if __name__ == "__main__":
    sys.exit(main())
