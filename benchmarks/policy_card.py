"""The model card of the policy that the package ships, printed from the record that lies beside its weights.

    vla bench policy-card [--ship RUN --seen RESULTS …] [--page FILE]

``--ship`` first puts what a finished run of vla train has learned into the package, in place of what was there: its
weights in 16 bits, and its record, which says what it learned from, how long, on which machine, and how it did in the
evaluations ``--seen``, folders of vla eval.
"""

import argparse
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from claim_tables import markdown
from report import home_path

from configs.commands.eval import RESULTS_FILE
from configs.run_directory import MACHINE_FILE, OUTPUTS, load_config, save_config, write_json
from configs.terminal import ending_with_the_reader
from configs.training import Config
from envs.suites import task_names
from policies.data.dataset import DemonstrationDataset
from policies.data.left_out import tried_seeds
from policies.shipped import FOLDER, SHIPPED
from policies.training.checkpoint import CHECKPOINTS, load_newest
from policies.vla_policy import VLAPolicy, find_policy
from vla.checkpoint import write_weights
from vla.durable import write_text_atomically
from vla.saving import WEIGHTS_FILE

RUN_FILE, RECORD_FILE = "run.json", "record.json"
LARGEST_BYTES = 6_000_000
PAGE = """# `shipped`: a policy to start from

The policy that the package ships at `policies/pretrained/tabletop`. `shipped` names it wherever a policy is asked for:
`vla eval shipped --suite tabletop-goal`, `vla serve shipped`, `vla train nano-tabletop --data FOLDER` (which is
`--init-from shipped`), `vla rl nano-ppo --policy shipped`. It has learned the tasks below and seen no demonstration of
`reach`, `pick` and `place`, which the quickstart teaches it. **This page is printed by `vla bench policy-card --page
docs/models/tabletop.md`** from the record beside the weights.

## What it is

{facts}

It must be told where its cameras stand (intrinsics and poses), which simulated worlds and our stores say. Weights are
stored in 16 bits and computed with in 32.

## What it learned from

{data}

Seeds are those that were tried; where an expert failed there is no episode. In a share of the episodes the tool is
first driven astray (*detours*). Usual worlds have the arm start up to 0.3 rad from home; `randomised:all` changes in
half of the episodes each whatever a perturbation can change, in ranges that leave out a part of what tests show
([claims](../claims.md)).

## How it does as it is

{seen}

## What it cannot do

- It has acted in simulation alone, with one arm (`panda`, `delta_pose`, 20 Hz), two cameras and pictures of 64 × 64 px.
  With another robot its numbers mean something else: it is refused, start from the backbone instead (`nano-bridge`).
- It remembers nothing from one chunk to the next.

## How to make it again

```bash
{recordings}
vla train --config policies/pretrained/tabletop/run.json --data {folders}
vla bench policy-card --ship outputs/train/DATE/RUN --seen outputs/eval/DATE/RUN … --page docs/models/tabletop.md
```
"""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--ship", type=home_path, metavar="RUN", help="a finished run of vla train")
    parser.add_argument("--seen", type=home_path, nargs="+", default=[], metavar="RESULTS", help="runs of vla eval")
    parser.add_argument("--page", type=home_path, help="also write the card to this file")
    arguments = parser.parse_args()
    if arguments.seen and not arguments.ship:
        parser.error("--seen is about a run that is shipped: name it with --ship")
    if arguments.ship:
        ship(arguments.ship, arguments.seen)
    page = card()
    print(page, end="")
    if arguments.page:
        arguments.page.parent.mkdir(parents=True, exist_ok=True)
        write_text_atomically(arguments.page, page)


def ship(run_dir: Path, seen: Sequence[Path] = (), folder: Path = FOLDER) -> None:
    """Put a run's policy into the package, with its config and record.

    ``ValueError`` for a run that is not finished and a policy too large.
    """
    config = load_config(Config, run_dir)
    state = load_newest(run_dir / CHECKPOINTS)
    if state is None or state.step != config.train.steps:
        raise ValueError(f"expected a finished run of {config.train.steps} steps at {run_dir}; resume it first")
    policy = VLAPolicy.load(find_policy(run_dir))
    weights = {name: weight.half() for name, weight in policy.vla.kept().items()}
    if (size := sum(2 * weight.numel() for weight in weights.values())) > LARGEST_BYTES:
        raise ValueError(f"the package holds a policy of {LARGEST_BYTES / 1e6:.0f} MB at most, got {size / 1e6:.1f} MB")
    before = _before(folder) if config.init_from == Path(SHIPPED) else {}
    policy.save(folder)
    write_weights(folder / WEIGHTS_FILE, weights)
    names = tuple(Path(path.name) for path in config.data)
    save_config(replace(config, data=names, outputs=OUTPUTS), folder / RUN_FILE)
    write_json(record(config, run_dir, seen) | before | {"sha256": _sha256(folder)}, folder / RECORD_FILE)


def record(config: Config, run_dir: Path, seen: Sequence[Path]) -> dict[str, Any]:
    """What the card says beside the config."""
    began, ended = (run_dir / MACHINE_FILE).stat().st_mtime, find_policy(run_dir).stat().st_mtime
    results = [each for path in seen for each in json.loads((path / RESULTS_FILE).read_text(encoding="utf-8"))]
    kept = ("task", "perturbation", "instructions", "success", "episodes")
    return {
        "hours": round((ended - began) / 3600, 2),
        "machine": json.loads((run_dir / MACHINE_FILE).read_text(encoding="utf-8")),
        "data": [each for path in config.data for each in _about_data(path)],
        "seen": [{name: each[name] for name in kept} for each in results],
    }


def _before(folder: Path) -> dict[str, Any]:
    """What the record says of the shipped policy that another one started from, which is there no more."""
    known, config = (
        json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")),
        load_config(Config, folder / RUN_FILE),
    )
    former = {name: known[name] for name in ("sha256", "hours", "data")}
    return {"before": former | {"steps": config.train.steps, "revision": known["machine"].get("revision", "unknown")}}


def card(folder: Path = FOLDER) -> str:
    """The card as Markdown; ``CheckpointError`` where nothing is shipped, ``ValueError`` for a record of others."""
    policy = VLAPolicy.load(folder)
    config = load_config(Config, folder / RUN_FILE)
    known = json.loads((folder / RECORD_FILE).read_text(encoding="utf-8"))
    if known["sha256"] != (digest := _sha256(folder)):
        raise ValueError(f"the record in {folder} is of {known['sha256']}, the weights are {digest}")
    return PAGE.format(
        facts=markdown(_facts(policy, config, known)),
        data=markdown([_line_of_data(each) for each in known["data"]]),
        recordings="\n".join(_command(each) for each in known["data"]),
        folders=" ".join(dict.fromkeys(_folder(each) for each in known["data"])),
        seen=markdown([_line(each) for each in known["seen"]]),
        steps=f"{config.train.steps:,}",
    )


def _facts(policy: VLAPolicy, config: Config, known: Mapping[str, Any]) -> list[dict[str, object]]:
    machine, train = known["machine"], config.train
    facts = {
        "network": f"{type(config.backbone).__name__} and {type(config.head).__name__}, known cameras",
        "parameters": sum(weight.numel() for weight in policy.vla.parameters()),
        "sha256 of the weights": f"`{known['sha256']}`",
        "the backbone that it started from": f"`{policy.base}`",
        **_started_from(known.get("before")),
        "steps": f"{train.steps:,} of {train.batch_size} windows, seed {train.seed}",
        "compute": f"{known['hours']:.1f} hours, {train.processes} × {train.device} ({machine['processor']}, "
        f"{machine['cores']} cores)",
        "made with": f"revision {machine.get('revision', 'unknown')}, torch {machine.get('torch version', '?')}, "
        f"mujoco {machine.get('mujoco version', '?')}",
    }
    return [{"what": name, "value": value} for name, value in facts.items()]


def _started_from(before: Mapping[str, Any] | None) -> dict[str, object]:
    """The shipped policy before, if it went on from that."""
    if before is None:
        return {}
    episodes = sum(each["episodes"] for each in before["data"])
    learned = f"{before['steps']:,} steps on {episodes:,} other episodes in {before['hours']:.1f} hours"
    return {"the policy that it went on from": f"`{before['sha256'][:12]}`, revision {before['revision']}: {learned}"}


def _about_data(path: Path) -> list[dict[str, object]]:
    """What a store holds, for each range of seeds: of which tasks, or their suites."""
    dataset, ranges = DemonstrationDataset(path), dict[tuple[int, int], set[str]]()
    for task, seeds in tried_seeds(path).items():
        ranges.setdefault((min(seeds), max(seeds)), set()).add(task)
    settings = dataset.settings
    return [
        {
            "name": path.name,
            "tasks": _named([name for name in dict.fromkeys(each.task for each in dataset.records) if name in tasks]),
            "perturbation": settings.get("env", {}).get("perturbation"),
            "detours": settings.get("noise", {}).get("detours", 0.0),
            "seeds": [first, last],
            "episodes": sum(each.task in tasks for each in dataset.records),
            "frames": sum(each.length for each in dataset.records if each.task in tasks),
        }
        for (first, last), tasks in ranges.items()
    ]


def _named(tasks: Sequence[str]) -> list[str]:
    """Tasks by the name of their suite, where all of it are there."""
    whole = {suite: task_names([suite]) for name in tasks if (suite := name.rpartition("/")[0])}
    suites = {task: suite for suite, names in whole.items() if set(names) <= set(tasks) for task in names}
    return list(dict.fromkeys(suites.get(task, task) for task in tasks))


def _line_of_data(each: Mapping[str, Any]) -> dict[str, object]:
    first, last = each["seeds"]
    return {
        "demonstrations": each["name"],
        "tasks and suites": ", ".join(each["tasks"]),
        "worlds": each["perturbation"] or "usual",
        "detours": f"{100 * each['detours']:.0f} %",
        "seeds": f"{first:,} … {last:,}",
        "episodes": each["episodes"],
        "frames": each["frames"],
    }


def _folder(each: Mapping[str, Any]) -> str:
    return f"outputs/{each['name']}"


def _command(each: Mapping[str, Any]) -> str:
    """What records a part of a store again."""
    first, last = each["seeds"]
    worlds = f" --env.perturbation {each['perturbation']}" if each["perturbation"] else ""
    noise = f" --noise.detours {each['detours']}" if each["detours"] else ""
    seeds = f"--episodes {last - first + 1} --first-seed {first}"
    return f"vla collect {' '.join(each['tasks'])} {seeds}{worlds}{noise} --path {_folder(each)}"


def _line(each: Mapping[str, Any]) -> dict[str, object]:
    success = each["success"]
    return {
        "task": each["task"],
        "worlds": each["perturbation"] or "usual",
        "instructions": each["instructions"],
        "success": f"{100 * success['value']:.0f} %",
        "95 % interval": f"{100 * success['lo']:.0f} … {100 * success['hi']:.0f} %",
        "episodes": each["episodes"],
    }


def _sha256(folder: Path) -> str:
    return hashlib.sha256((folder / WEIGHTS_FILE).read_bytes()).hexdigest()


if __name__ == "__main__":
    with ending_with_the_reader():
        main()
