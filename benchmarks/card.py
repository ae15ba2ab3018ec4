"""The model card of the backbone that the package ships, printed from the record that lies beside its weights.

    vla bench card [--ship RUN] [--note TEXT] [--page FILE]

``--ship`` first puts what a finished run of vla pretrain has learned into the package, in place of what was there, with
the run's config and its record: data, steps, machine, time, and every number on new tables. ``--note`` says what the
config does not, such as what changed before the run was lengthened.
"""

import argparse
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from report import home_path

from configs.commands.pretrain import RESULTS_FILE, in_words
from configs.machine import CHECKOUT
from configs.pretraining import Config
from configs.run_directory import MACHINE_FILE, OUTPUTS, load_config, save_config, write_json
from configs.terminal import ending_with_the_reader
from policies.pretraining.config import HELD_OUT, KNOWN_WORDS
from policies.training.checkpoint import BACKBONE, CHECKPOINTS, find_product, load_newest
from policies.training.metrics import read_metrics
from vla.adopting import check_base
from vla.backbones.nano import NanoConfig
from vla.backbones.tokenizer import NanoTokenizer
from vla.base import load_base, save_base
from vla.durable import write_text_atomically
from vla.saving import WEIGHTS_FILE
from vla.shipped import FOLDER, shipped_base

RUN_FILE, RECORD_FILE = "run.json", "record.json"
LARGEST_BYTES = 12_000_000
CURVE_ROWS = 10
CURVE = ("world_cm_median", "within_3cm", "within_3px", "answers", "told_apart")
"""What is shown of how it learned, as far as it was."""
LIMITS = """
- It has seen rendered tables alone, of one robot's cameras, never a photograph.
- It always answers: the heatmap of a thing that is not there adds up to 1 all the same. A flat one (little in its
  hottest cell) means that it does not know.
- It looks at pictures of {height} × {width} px; what covers a pixel or two of them is beyond it.
- It reads English phrases about things on a table, in the words of `envs/grounding/vocabulary.py`; others mean little
  to it.
- A question of a form that it never learned it takes for one of another kind: asked to "count the drums" it says "yes",
  asked for "the number of keys" it names a thing. Hence the few right numbers in held-out words.
- The place in the world rests on where its cameras stand and on the robot's state ({state} numbers). For a robot with
  other cameras or another state that part starts afresh (`vla/adopting.py`).
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ship", type=home_path, metavar="RUN", help="a finished run of vla pretrain")
    parser.add_argument("--note", default="", metavar="TEXT", help="what else is to be known of the run")
    parser.add_argument("--page", type=home_path, help="also write the card to this file")
    arguments = parser.parse_args()
    if arguments.note and not arguments.ship:
        parser.error("--note is about a run that is shipped: name it with --ship")
    if arguments.ship:
        ship(arguments.ship, note=arguments.note)
    page = card()
    print(page, end="")
    if arguments.page:
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(arguments.page, page)


def ship(run_dir: Path, folder: Path = FOLDER, note: str = "") -> None:
    """Put a run's backbone into the package, with its config and record.

    ``ValueError`` for a run that is not finished, a backbone that is not a default ``nano``'s, and one too large.
    """
    config = load_config(Config, run_dir)
    ended = run_dir / RESULTS_FILE
    results = json.loads(ended.read_text(encoding="utf-8")) if ended.is_file() else {}
    if results.get("steps") != config.train.steps:
        raise ValueError(f"expected a finished run of {config.train.steps} steps at {run_dir}; resume it first")
    base = load_base(find_product(run_dir, BACKBONE, WEIGHTS_FILE))
    if base.sha256 != results["sha256"]:
        raise ValueError(f"the newest backbone of {run_dir} is {base.sha256}, its results are of {results['sha256']}")
    check_base(NanoConfig(), base, NanoTokenizer().fingerprint)
    size = sum(weight.numel() * weight.element_size() for weight in base.weights.values())
    if size > LARGEST_BYTES:
        raise ValueError(f"the package holds at most {LARGEST_BYTES / 1e6:.0f} MB of weights, got {size / 1e6:.1f} MB")
    save_base(base.config, base.weights, folder)
    save_config(_of_no_machine(config), folder / RUN_FILE)
    write_json(record(run_dir, results) | {"note": note}, folder / RECORD_FILE)


def _of_no_machine(config: Config) -> Config:
    """The config without the folders of the machine that it ran on; of a teacher's folder its name is left."""
    teacher = config.teacher
    if teacher is not None and teacher.is_absolute():
        teacher = Path(teacher.name)
    return replace(config, outputs=OUTPUTS, teacher=teacher, scenes=replace(config.scenes, keep=None))


def record(run_dir: Path, results: Mapping[str, Any]) -> dict[str, Any]:
    """What the card says beside the config: machine, hours from the run's first file to its last, held-out numbers."""
    began, ended = ((run_dir / name).stat().st_mtime for name in (MACHINE_FILE, RESULTS_FILE))
    curve = [
        {name.removeprefix(HELD_OUT): value for name, value in entry.items() if name == "step" or HELD_OUT in name}
        for entry in read_metrics(run_dir)
        if any(HELD_OUT in name for name in entry)
    ]
    return {
        "steps": results["steps"],
        "legs": _legs(run_dir),
        "sha256": results["sha256"],
        "hours": round((ended - began) / 3600, 2),
        "machine": json.loads((run_dir / MACHINE_FILE).read_text(encoding="utf-8")),
        "held_out": results["held_out"],
        "curve": curve,
    }


def _legs(run_dir: Path) -> list[int]:
    """After how many steps the run ended each time, before it was lengthened."""
    state = load_newest(run_dir / CHECKPOINTS)
    assert state is not None  # a finished run has a checkpoint
    return list(state.progress["legs"])


def card(folder: Path = FOLDER) -> str:
    """The card as Markdown; ``CheckpointError`` where nothing is shipped, or something damaged.

    ``ValueError`` where the record is of other weights.
    """
    base = shipped_base(folder)
    config = load_config(Config, folder / RUN_FILE)
    known = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    if known["sha256"] != base.sha256:
        raise ValueError(f"the record in {folder} is of {known['sha256']}, the weights are {base.sha256}")
    height, width = base.config.image_size_px
    limits = LIMITS.format(height=height, width=width, state=len(base.config.state_names)).strip()
    parts = [
        "# `nano`, pre-trained to look",
        "The backbone that the package ships at `vla/backbones/pretrained/nano`, from which new policies start "
        "(`--backbone.weights shipped`) and which `vla ground` asks. Pictures and a phrase in; a heatmap per picture, "
        "and a place in the world out. [How nano learns](../nano.md) describes the network and its losses. **This page "
        "is printed by `vla bench card --page docs/models/nano.md`** from the record beside the weights.",
        "## What it is",
        _table(["", ""], _facts(config, base, known)),
        *([known["note"]] if known["note"] else []),
        "## How well it looks",
        f"On {config.train.held_out_tables} rendered tables that were never learned from, once in words that are held "
        "out and once in those that are learned, by the averaged weights.",
        _numbers(known["held_out"]),
        "As it learned:",
        _curve(known["curve"]),
        "## What it cannot do",
        limits,
        "## How to make it again",
        "```bash\n" + "\n".join(_commands(known["legs"])) + "\n```",
        "Tables are drawn from seeds, so the same versions on the same processor give the same weights. "
        "`vla ground --scene 7` shows what it sees of a held-out table.",
    ]
    return "\n\n".join(parts) + "\n"


def _commands(legs: Sequence[int]) -> list[str]:
    first, *others = legs
    run_file = (FOLDER / RUN_FILE).relative_to(CHECKOUT)
    begin = f"vla pretrain --config {run_file}" + (f" --train.steps {first}" if others else "")
    lengthened = [f"vla pretrain --resume outputs/pretrain/DATE/RUN --train.steps {steps}" for steps in others]
    ship = "vla bench card --ship outputs/pretrain/DATE/RUN --page docs/models/nano.md"
    return [begin, *lengthened, ship]


def _facts(config: Config, base: Any, known: Mapping[str, Any]) -> list[tuple[str, str]]:
    train, scenes, machine = config.train, config.scenes, known["machine"]
    weights = base.weights.values()
    size = sum(weight.numel() * weight.element_size() for weight in weights)
    weighed = {name: weight for name, weight in vars(train.weights).items() if weight}
    if config.teacher is None:
        weighed.pop("teacher", None)
    tables = known["steps"] * train.tables
    packages = [f"{name} {machine[f'{name} version']}" for name in ("torch", "mujoco") if f"{name} version" in machine]
    return [
        ("learned parameters", f"{sum(weight.numel() for weight in weights):,} ({size / 1e6:.1f} MB)"),
        ("sha256 of the weights", f"`{base.sha256}`"),
        ("cameras", ", ".join(base.config.cameras)),
        ("data", f"rendered tables of {', '.join(scenes.tasks) or 'all tasks and suites'}, robot {scenes.robot}"),
        ("tables learned from", f"{tables:,}, none twice, with up to {train.sentences_per_table} sentences each"),
        ("weights of what is learned", ", ".join(f"{name} {weight:g}" for name, weight in weighed.items())),
        ("teacher of sentences", "none" if config.teacher is None else f"`{config.teacher}`"),
        (
            "steps",
            f"{' + '.join(f'{steps:,}' for steps in _lengths(known['legs']))} of {train.tables} tables, "
            f"seed {train.seed}",
        ),
        (
            "compute",
            f"{known['hours']:.1f} hours, stops included, {train.processes} × {train.device} "
            f"({machine['processor']}, {machine['cores']} cores)",
        ),
        ("made with", ", ".join([f"revision {machine.get('revision', 'unknown')}", *packages])),
    ]


def _lengths(legs: Sequence[int]) -> list[int]:
    return [end - begin for begin, end in zip([0, *legs], legs, strict=False)]


def _numbers(found: Mapping[str, float]) -> str:
    held_out, known = in_words(found), in_words(found, KNOWN_WORDS)
    return _table(["metric", "held-out words", "known words"], [(k, v, known.get(k, "")) for k, v in held_out.items()])


def _curve(entries: Sequence[Mapping[str, Any]]) -> str:
    """At most ``CURVE_ROWS`` evaluations, evenly spread, the last among them."""
    chosen = sorted({round(i * (len(entries) - 1) / (CURVE_ROWS - 1)) for i in range(CURVE_ROWS)})
    names = [name for name in CURVE if name in entries[-1]]
    said = [in_words({name: entries[index].get(name, math.nan) for name in names}) for index in chosen]
    rows = [[f"{int(entries[index]['step']):,}", *words.values()] for index, words in zip(chosen, said, strict=True)]
    return _table(["steps", *said[-1]], rows)


def _table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    return "\n".join("| " + " | ".join(cells) + " |" for cells in [header, ["---"] * len(header), *rows])


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
