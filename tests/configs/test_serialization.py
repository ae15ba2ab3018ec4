import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from configs.serialization import at_home, from_json, leaves, to_json


@dataclass(frozen=True, kw_only=True)
class Small:
    width: int = 4


@dataclass(frozen=True, kw_only=True)
class Large:
    width: int = 4
    rate: float = 0.5


@dataclass(frozen=True, kw_only=True)
class Settings:
    head: Small | Large = field(default_factory=Small)
    mode: Literal["fast", "slow"] = "fast"
    betas: tuple[float, float] = (0.9, 0.95)
    names: tuple[str, ...] = ()
    folder: Path | None = None
    limits: dict[str, int] = field(default_factory=dict)
    flag: bool = False


settings = st.builds(
    Settings,
    head=st.one_of(
        st.builds(Small, width=st.integers()),
        st.builds(Large, width=st.integers(), rate=st.floats(allow_nan=False, allow_infinity=False)),
    ),
    mode=st.sampled_from(["fast", "slow"]),
    betas=st.tuples(st.floats(0, 1), st.floats(0, 1)),
    names=st.lists(st.text()).map(tuple),
    folder=st.one_of(st.none(), st.just(Path("a/b"))),
    limits=st.dictionaries(st.text(), st.integers()),
    flag=st.booleans(),
)


@given(settings)
def test_json_text_reads_back_as_the_same_config(config):
    assert from_json(Settings, json.loads(json.dumps(to_json(config)))) == config


def test_union_keeps_its_member_though_the_fields_agree():
    assert from_json(Settings, to_json(Settings(head=Large(width=7)))).head == Large(width=7)
    assert from_json(Settings, to_json(Settings(head=Small(width=7)))).head == Small(width=7)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"hed": {}}, r"has no field \['hed'\]; its fields are \['head', 'mode'"),
        ({"mode": "medium"}, r"config\.mode: expected one of \['fast', 'slow'\], got 'medium'"),
        ({"betas": [0.9]}, r"config\.betas: expected a list of 2 entries"),
        ({"betas": [0.9, "high"]}, r"config\.betas\[1\]: expected a number, got 'high'"),
        ({"flag": 1}, r"config\.flag: expected a value of type bool, got 1"),
        ({"head": {"type": "Huge"}}, r"config\.head: expected a type among \['Large', 'Small'\], got 'Huge'"),
        ({"limits": {"a": True}}, r"config\.limits\.a: expected a value of type int"),
        ([], r"config: expected an object \(Settings\)"),
    ],
)
def test_a_mistake_is_named_with_its_place(data, message):
    with pytest.raises(ValueError, match=message):
        from_json(Settings, data)


def test_what_no_config_may_hold_is_refused():
    with pytest.raises(TypeError, match="cannot hold a set"):
        to_json({"a": {1, 2}})


@pytest.mark.parametrize("number", [float("nan"), float("inf"), float("-inf")])
def test_a_number_that_json_cannot_hold_is_neither_written_nor_read(number):
    with pytest.raises(ValueError, match="a config cannot hold"):
        to_json(Settings(betas=(0.9, number)))
    with pytest.raises(ValueError, match=r"config\.betas\[1\]: expected a finite number"):
        from_json(Settings, {"betas": [0.9, number]})


def test_home_is_found_in_files_and_anywhere_in_a_config(monkeypatch, tmp_path):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert from_json(Settings, {"folder": "~/x"}).folder == tmp_path / "x"
    assert at_home(Settings(folder=Path("~/x"))) == Settings(folder=tmp_path / "x")
    assert at_home((Path("~"), Path("a/~"))) == (tmp_path, Path("a/~"))
    untouched = Settings()
    assert at_home(untouched) is untouched
    with pytest.raises(ValueError, match="no home folder for ~nobody-of-this-name/x"):
        from_json(Settings, {"folder": "~nobody-of-this-name/x"})


def test_leaves_have_their_places():
    found = dict(leaves(Settings(betas=(0.1, 0.2), limits={"a": 1})))
    assert (found["head.width"], found["betas.1"], found["limits.a"], found["flag"]) == (4, 0.2, 1, False)
