"""The rows of the claims: their grids, demonstrations and bases, and a row measured from end to end."""

import importlib
import json
import pickle
from dataclasses import replace

import pytest

from configs.machine import CHECKOUT

pytestmark = pytest.mark.usefixtures("benchmarks")


@pytest.fixture
def rows():
    return importlib.import_module("claim_rows").ROWS


@pytest.fixture
def tiny():
    """A row that takes seconds: a base that only looks, and demonstrations of two kinds in four colours."""
    from claim_methods import Base, Method, Part, Recording
    from claim_rows import USUAL, Row, colours

    from configs import presets, pretraining
    from vla.objectives.objective import ObjectiveWeights

    looking = ObjectiveWeights(caption=0, answer=0, matching=0, teacher=0)
    preset = pretraining.debug()
    base = Base(
        name="looking alone", pretraining=replace(preset, train=replace(preset.train, steps=4, weights=looking))
    )
    parts = (Part(share=2), Part(share=1, perturbation="randomised:all", first_seed=100))
    seen = ("red", "green", "blue", "yellow")
    recording = Recording(name="tiny", tasks=("reach",), palette=seen, parts=parts)
    return Row(
        name="tiny",
        claim="…",
        recording=recording,
        methods={
            "after looking": Method(policy=presets.debug(), base=base),
            "from scratch": Method(policy=presets.debug()),
        },
        budgets=[(6, 4)],
        conditions=(USUAL, colours(("purple", "cyan", "grey", "brown"))),
        episodes=2,
    )


@pytest.fixture
def work(tmp_path):
    from measuring import Work

    return Work(folder=tmp_path / "digest", scenes=tmp_path / "scenes", ledger=tmp_path / "ledger")


def test_a_condition_of_other_tasks_says_which(rows):
    from claim_rows import is_axis, palette_of, tasks, tasks_of

    told, other = (tasks_of(condition) for condition in rows["things"].conditions)
    assert told == rows["things"].recording.tasks and len({*told, *other}) == 10
    assert tasks(other) == rows["things"].conditions[1] and not is_axis(tasks(other)) and not palette_of(tasks(other))


def test_a_grid_is_every_method_at_every_budget_with_every_seed(rows):
    grid = rows["pretraining"].grid([0, 1])
    assert len(grid) == len(set(grid)) == 2 * 5 * 7
    assert {key.budget for key in grid} == {(350, 300), (350, 1000), (350, 3000), (10, 1000), (50, 1000)}
    keys = {key for row in rows.values() for key in row.grid([0, 1, 2])}
    assert len(keys) == len({key.path for key in keys})


def test_a_shared_cell_is_measured_as_both_rows_have_it_and_shown_by_both(rows, tmp_path):
    from claim_tables import cells_for
    from ledger import Cell

    sharing = [(row, method, rows[other]) for row in rows.values() for method, other in row.shared.items()]
    assert [(row.name, other.name) for row, _, other in sharing] == [("cameras", "quickstart")]
    for row, method, other in sharing:
        assert row.methods[method] == other.methods[method]
        assert row.recording_of(method) == other.recording_of(method) and row.recording == other.recording
        assert (row.conditions, row.episodes) == (other.conditions, other.episodes)
        assert set(row.budgets) <= set(other.budgets)
    cameras = rows["cameras"]
    grid = cameras.grid([0, 1])
    assert [key.claim for key in grid] == ["quickstart", "cameras"] * 2
    for key in (*grid, replace(grid[0], method="another"), replace(grid[0], steps=1)):
        Cell(key=key, outcomes=()).write(tmp_path)
    assert sorted(cell.key for cell in cells_for(cameras, tmp_path)) == sorted(grid)


def test_what_is_improved_is_the_first_method_of_the_row(rows):
    from claims import starts_of

    start, *others = rows["rl"].grid([0])
    assert rows["rl"].start_of(start) is None
    assert starts_of(rows, [start, *others]) == [start]
    alone = [key.method for key in others if rows["rl"].start_of(key) is None]
    assert alone == ["imitation for ten times as long"] and len(others) == 6


def test_a_longer_training_is_the_first_method_with_more_steps(rows, tmp_path):
    from measuring import Work, training_of

    row = rows["rl"]
    first, *others = row.grid([3])
    longer = next(key for key in others if key.method.startswith("imitation for"))
    work = Work(folder=tmp_path, scenes=tmp_path)
    usual, more = (training_of(row, key, work) for key in (first, longer))
    assert (usual.train.steps, more.train.steps, more.train.seed) == (350, 3500, 3)
    assert replace(more, train=replace(more.train, steps=350)) == usual


def test_every_method_is_a_whole_training_that_a_process_can_be_handed(rows):
    for row in rows.values():
        assert pickle.loads(pickle.dumps(row)) == row
        for name, method in row.methods.items():
            weights = method.policy.backbone.weights
            assert (weights == "fresh") == (method.base is not None or "scratch" in name), (row.name, name)


def test_pretrainings_lack_one_objective_each_and_are_otherwise_alike(rows):
    bases = [method.base for method in rows["pretraining"].methods.values() if method.base is not None]
    everything, *others = bases
    all_weights = vars(everything.pretraining.train.weights)
    assert not [name for name, weight in all_weights.items() if not weight and name not in ("blind", "features")]
    lacking = {}
    for base in others:
        weights = vars(base.pretraining.train.weights)
        lacking[base.name] = sorted(name for name, weight in weights.items() if weight != all_weights[name])
        assert not any(weights[name] for name in lacking[base.name])
        same = replace(base.pretraining.train, weights=everything.pretraining.train.weights)
        assert same == everything.pretraining.train and base.pretraining.backbone == everything.pretraining.backbone
    assert lacking == {
        "without telling": ["answer", "caption"],
        "without matching": ["matching"],
        "without a teacher": ["teacher"],
        "looking alone": ["answer", "caption", "matching", "teacher"],
    }


def test_bases_and_recordings_of_several_cells_are_made_once(rows):
    from claims import bases_of, recordings_of

    pretraining, quickstart = rows["pretraining"].grid([0, 1, 2]), rows["quickstart"].grid([0, 1, 2])
    assert len(bases_of(rows, pretraining)) == 5
    assert bases_of(rows, quickstart) == []
    made = [(recording.name, count) for recording, count in recordings_of(rows, [*pretraining, *quickstart])]
    three = "reach-pick-place"
    ours = [(f"{three}-{worlds}", count) for count in (200, 350) for worlds in ("quickstart", "randomised")]
    assert made == [(three, 350), (three, 10), (three, 50), *ours]


@pytest.mark.parametrize(("count", "usual", "randomised"), [(350, 200, 150), (7, 4, 3), (2, 1, 1), (1, 1, 0)])
def test_the_parts_of_a_recording_share_its_episodes_and_no_seed(count, usual, randomised):
    from claim_methods import RANDOMISED_TOO, Part

    seeds = {part.perturbation: list(range_) for part, range_ in RANDOMISED_TOO.divided(count)}
    assert seeds[None] == list(range(usual))
    assert seeds.get("randomised:all", []) == list(range(100_000, 100_000 + randomised))
    two = replace(RANDOMISED_TOO, parts=(Part(), Part(perturbation="randomised:all", first_seed=5)))
    assert len(two.divided(10)) == 2
    with pytest.raises(ValueError, match="have seeds in common, at 12 demonstrations per task"):
        two.divided(12)


def test_a_base_lies_where_its_settings_say(tiny, work):
    base = tiny.methods["after looking"].base
    longer = replace(base, pretraining=replace(base.pretraining, train=replace(base.pretraining.train, steps=5)))
    assert work.base_run(base) == work.base_run(replace(base)) != work.base_run(longer)
    assert work.base_run(base).name.startswith("looking-alone-")


def test_what_a_method_cannot_start_from_is_refused_before_any_work(rows, work, tmp_path, monkeypatch):
    methods = rows["pretraining"].methods
    with pytest.raises(ValueError, match="a sentence encoder teaches the base 'all objectives': say which one"):
        work.check([methods["all objectives"]])
    with pytest.raises(ValueError, match="expected a folder with a sentence encoder"):
        replace(work, teacher=tmp_path / "nowhere").check([methods["without telling"]])
    monkeypatch.setattr("vla.shipped.FOLDER", tmp_path)
    with pytest.raises(ValueError, match="lacks its pre-trained backbone"):
        work.check([methods["shipped eye"]])
    work.check([methods["without a teacher"], methods["looking alone"], methods["from scratch"]])


def test_conditions_stand_beside_what_demonstrations_vary(rows):
    from claim_ranges import ranges

    lines = {(line["condition"], line["axis"]): line for line in ranges(rows["quickstart"])}
    start = lines["libero-plus-7:robot_start/3", "robot_start"]
    assert (start["demonstrations"], start["test"]) == ("distance_rad 0 … 0.3", "distance_rad 0.3")
    outside = {
        ("libero-plus-7:robot_start/3", "robot_start"): "",
        ("libero-plus-7:camera/3", "camera"): "",
        ("libero-plus-7:language/4", "language"): "level, words",
        ("libero-plus-7:background/4", "table_texture"): "names",
        ("colosseum-14:all", "mass"): "factor",
    }
    assert {which: lines[which]["outside"] for which in outside} == outside
    assert lines["colosseum-14:all", "camera"]["demonstrations"] == "varied otherwise"
    assert len(lines) == 14 + 1 + 4 + 1 + 1
    assert ranges(rows["heads"]) == []


def test_tables_in_other_pages_are_brought_up_to_date(tiny):
    from claim_tables import BEGIN, END, brought_up_to_date, markdown, success_lines

    found = [cell_of("after looking", [True, False]), cell_of("of old", [False, False])]
    page = f"# Page\n\n{BEGIN}tiny -->\n| 99 % |\n{END}\n\nand so on\n"
    wanted = page.replace("| 99 % |", markdown(success_lines(tiny, found[:1])))
    assert "| 50.0 % |" in wanted and brought_up_to_date(page, [tiny], {"tiny": found}) == wanted
    assert brought_up_to_date(wanted, [tiny], {"tiny": found}) == wanted
    for broken in (page.replace("tiny -->", "small -->"), page.replace(END, "")):
        with pytest.raises(ValueError, match="with NAME out of tiny, got"):
            brought_up_to_date(broken, [tiny], {"tiny": found})


@pytest.mark.parametrize("name", ["README.md", "docs/benchmarks.md", "docs/claims.md"])
def test_what_pages_say_of_success_is_what_the_ledger_says(name, rows):
    from claim_tables import brought_up_to_date, cells_for, page

    text, found = (CHECKOUT / name).read_text(encoding="utf-8"), {each: cells_for(row) for each, row in rows.items()}
    printed = page(list(rows.values()), found) if name == "docs/claims.md" else None
    assert text == (printed or brought_up_to_date(text, list(rows.values()), found))


def cell_of(method, won, base=None):
    from ledger import Cell, Key, Outcomes

    key = Key(claim="tiny", method=method, demonstrations=6, steps=4, seed=0)
    outcomes = (Outcomes.of("usual", "reach", [0, 1], won),)
    return Cell(key=key, outcomes=outcomes, figures={"train_s": 60.0}, base=base)


def test_what_a_row_no_longer_has_stands_apart_and_is_not_held_against_what_it_has(tiny):
    from claim_tables import FORMER, page

    base = {"name": "looking alone", "sha256": "0123456789abcdef", "steps": 2000, "wall_s": 1800.0}
    found = [cell_of("after looking", [True, True], base), cell_of("from scratch", [True, False])]
    now, _, before = page([tiny], {"tiny": [*found, cell_of("old", [False, False])]}).partition(FORMER)
    assert "| from scratch | 6 | 4 | usual | 50.0 % |" in now and "| -50.0 (" in now and "| old |" not in now
    assert "Bases: looking alone (`0123456789ab`, 2,000 steps in 30 minutes)." in now
    assert "| old | 6 | 4 | usual | 0.0 % |" in before and "against" not in before
    assert FORMER not in page([tiny], {"tiny": found})


@pytest.mark.slow
def test_a_row_is_measured_from_its_bases_to_its_cells(tiny, work):
    from claims import measure_all
    from ledger import Cell, missing
    from measuring import BASE_FILE, measure

    from policies.data.dataset import DemonstrationDataset

    rows, keys = {"tiny": tiny}, tiny.grid([0])
    usual, randomised = work.data(tiny.recording, 6)
    base = tiny.methods["after looking"].base
    work.record(tiny.recording, 6)
    seeds = [{record.seed for record in DemonstrationDataset(path).records} for path in (usual, randomised)]
    assert seeds[0] and seeds[1] and seeds[0] <= {0, 1, 2, 3} and seeds[1] <= {100, 101}
    said = " ".join(record.instruction for path in (usual, randomised) for record in DemonstrationDataset(path).records)
    assert not {"purple", "cyan", "grey", "brown"} & set(said.split())

    work.train_base(base)
    made = work.base_run(base) / BASE_FILE
    first = made.read_bytes()
    work.train_base(base)
    assert made.read_bytes() == first  # it was there
    made.unlink()
    work.train_base(base)  # as if it had been stopped just before it was done
    assert json.loads(made.read_text())["sha256"] == json.loads(first)["sha256"]
    assert any(work.scenes.rglob("*.scenes"))

    cells = [measure(tiny, key, work) for key in keys]
    assert [cell.base and cell.base["sha256"] for cell in cells] == [json.loads(first)["sha256"], None]
    assert [cell.base and cell.base["steps"] for cell in cells] == [4, None]
    assert all(len(cell.won(condition)) == 2 for cell in cells for condition in tiny.conditions)
    assert missing(keys, ledger=work.ledger) == []
    (work.ledger / keys[0].path).unlink()
    measure_all(rows, missing(keys, ledger=work.ledger), work, jobs=1)  # the training is there, in another process too
    again = Cell.read(work.ledger / keys[0].path)
    assert again.outcomes == cells[0].outcomes and again.base == cells[0].base


@pytest.mark.slow
def test_a_row_whose_first_method_teaches_and_whose_last_one_speaks(tiny, work):
    from claim_methods import Method
    from claim_rows import SILENT, USUAL
    from claims import measure_all
    from ledger import Cell

    from configs import presets
    from vla.heads.chat import ChatConfig
    from vla.objectives import LossWeights

    debug = presets.debug()
    stage = replace(debug.train.stages[-1], share=1.0, weights=LossWeights(objectives={"layers": 0.5}))
    taught = replace(debug, train=replace(debug.train, stages=(stage,)))
    methods = {
        "first": Method(policy=debug),
        "taught": Method(policy=taught, teacher="first method"),
        "speaks": Method(policy=replace(debug, head=ChatConfig(width=16, layers=1))),
    }
    row = replace(tiny, methods=methods, conditions=(USUAL, SILENT), recording=replace(tiny.recording, palette=()))
    _, *last = keys = row.grid([0])
    assert [row.start_of(key) for key in keys] == [None, keys[0], None]
    measure_all({"tiny": row}, last, work, jobs=1)
    cells = {key.method: Cell.read(work.ledger / key.path) for key in last}
    assert (work.run(keys[0]) / "checkpoints").is_dir() and not (work.ledger / keys[0].path).exists()
    said = {name: [outcome.condition for outcome in cell.outcomes] for name, cell in cells.items()}
    assert said == {"taught": [USUAL], "speaks": [USUAL, SILENT]}
    figures = cells["speaks"].figures
    assert 0 <= figures["true"] <= figures["decisions"] and "decisions" not in cells["taught"].figures
    with pytest.raises(ValueError, match="a sentence encoder teaches a method: say which one"):
        work.check([replace(methods["taught"], teacher="sentences")])
