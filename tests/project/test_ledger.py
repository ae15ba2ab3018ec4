"""The ledger of measured cells: what is written comes back, gaps are found, and a change of the code is noticed."""

import importlib
from dataclasses import replace

import pytest

from configs.machine import CHECKOUT


@pytest.fixture(scope="module")
def ledger(benchmarks):
    return importlib.import_module("ledger")


@pytest.fixture
def cell(ledger):
    key = ledger.Key(claim="heads", method="mlp", demonstrations=10, steps=300, seed=1)
    outcomes = (
        ledger.Outcomes.of("usual", "reach", [0, 1, 2], [True, False, True]),
        ledger.Outcomes.of("usual", "pick", [0, 1, 2], [False, False, True]),
        ledger.Outcomes.of("shuffled", "pick", [0, 1, 2], [False, False, False]),
    )
    return ledger.Cell(key=key, outcomes=outcomes, figures={"train_s": 1.5})


def test_a_cell_comes_back_as_it_was_written(ledger, cell, tmp_path):
    cell.write(tmp_path)
    assert ledger.cells("heads", tmp_path) == [cell]
    assert cell.won("usual") == [True, False, True, False, False, True]
    assert cell.won("usual", "pick") == [False, False, True]
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["mlp-10x300-seed1.json"]


def test_a_method_in_plain_words_has_a_file_of_its_own(ledger, cell, tmp_path):
    key = replace(cell.key, method="bridge, last layer only")
    replace(cell, key=key, base={"name": "shipped", "sha256": "ab"}).write(tmp_path)
    assert [path.name for path in (tmp_path / "heads").iterdir()] == ["bridge-last-layer-only-10x300-seed1.json"]
    (found,) = ledger.cells("heads", tmp_path)
    assert (found.key, found.base) == (key, {"name": "shipped", "sha256": "ab"})


def test_only_what_was_not_measured_is_missing(ledger, cell, tmp_path):
    other = replace(cell.key, seed=2)
    cell.write(tmp_path)
    assert ledger.missing([cell.key, other], ledger=tmp_path) == [other]
    replace(cell, code="of another day").write(tmp_path)
    assert ledger.missing([cell.key, other], ledger=tmp_path) == [other]
    assert ledger.missing([cell.key, other], again=True, ledger=tmp_path) == [cell.key, other]


def test_cells_pool_their_episodes(ledger, cell):
    rate, episodes = ledger.pooled([cell, cell], "usual")
    assert (rate.value, episodes) == (0.5, 12)
    with pytest.raises(ValueError, match="no episodes of any task under 'dark'"):
        ledger.pooled([cell], "dark")


def test_outcomes_belong_to_consecutive_seeds(ledger):
    with pytest.raises(ValueError, match="one outcome for each of consecutive seeds, got 2"):
        ledger.Outcomes.of("usual", "reach", [0, 2], [True, True])


def test_a_file_that_is_no_cell_is_named(ledger, tmp_path):
    path = tmp_path / "heads" / "x.json"
    path.parent.mkdir()
    path.write_text("{}")
    with pytest.raises(ValueError, match=r"expected a cell of the ledger at .*x\.json"):
        ledger.cells("heads", tmp_path)


def test_the_digest_sees_code_and_not_words_about_it(ledger):
    plain = ledger._program("def f(x):\n    return x + 1\n")
    assert plain == ledger._program('"""What."""\ndef f(x):\n    """More."""\n    return x + 1  # and why\n')
    assert plain != ledger._program("def f(x):\n    return x + 2\n")


def test_the_page_of_claims_is_what_the_ledger_says(ledger):
    from claim_rows import ROWS
    from claim_tables import cells_for, page

    measured = {name: cells_for(row) for name, row in ROWS.items()}
    assert (CHECKOUT / "docs" / "claims.md").read_text(encoding="utf-8") == page(list(ROWS.values()), measured)


def test_a_table_pools_suites_and_says_what_an_obedient_policy_would_reach(ledger, cell):
    from claim_rows import SHUFFLED, THREE_TASKS, Row
    from claim_tables import success_lines

    row = Row(name="heads", claim="…", recording=THREE_TASKS, methods={"mlp": None}, budgets=[(10, 300)])
    told = replace(cell.outcomes[2], condition=SHUFFLED, obedient=0.25)
    suite = [replace(cell.outcomes[0], task=f"tabletop-goal/{name}") for name in ("a", "b")]
    usual, shuffled = success_lines(row, [replace(cell, outcomes=(*suite, told))])
    assert (usual["tabletop-goal"], usual["all"], usual["episodes"]) == ("66.7 %", "66.7 %", 6)
    assert (shuffled["pick"], shuffled["obedient"]) == ("0.0 %", "25.0 %")


def test_methods_are_held_against_the_first_one_at_their_budget_and_under_their_condition(ledger, cell):
    from claim_rows import THREE_TASKS, Row
    from claim_tables import success_lines

    methods = {"bridge": None, "mlp": None}
    row = Row(name="heads", claim="…", recording=THREE_TASKS, methods=methods, budgets=[(10, 300), (10, 600)])
    bridge = replace(cell, key=replace(cell.key, method="bridge"))
    worse = replace(cell, outcomes=tuple(replace(outcome, won="000") for outcome in cell.outcomes))
    longer = replace(worse, key=replace(cell.key, steps=600))
    lines = success_lines(row, [bridge, worse, longer])
    against = {(line["method"], line["steps"], line["condition"]): line.get("against bridge", "") for line in lines}
    assert against["mlp", 300, "usual"].startswith("-50.0 (")
    assert against["mlp", 300, "shuffled"].startswith("+0.0 (")
    assert against["mlp", 600, "usual"] == ""  # there is no bridge at this budget


def test_a_cell_is_measured_again_from_the_demonstrations_on_where_code_has_changed(ledger, monkeypatch, tmp_path):
    import claims

    folders = []
    monkeypatch.setattr(claims.Work, "check", lambda *_: None)
    monkeypatch.setattr(
        claims, "measure_all", lambda rows, keys, work, jobs: folders.append((work.folder, work.scenes))
    )
    for digest in ("before", "after"):
        monkeypatch.setattr(claims, "code_digest", lambda digest=digest: digest)
        monkeypatch.setattr("sys.argv", ["claims.py", "heads", "--again", "--work", str(tmp_path)])
        claims.main()
    assert folders == [(tmp_path / digest, tmp_path / "scenes") for digest in ("before", "after")]


def test_every_cell_in_the_repository_is_one_of_a_row(ledger):
    from claim_rows import ROWS

    for path in sorted(ledger.LEDGER.glob("*/*.json")):
        cell = ledger.Cell.read(path)
        assert path == ledger.LEDGER / cell.key.path
        assert cell.key.claim in ROWS
