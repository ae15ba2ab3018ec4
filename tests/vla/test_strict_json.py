import json
import math

import pytest

from vla.strict_json import finite, strict_json


@pytest.mark.parametrize("number", [math.nan, math.inf, -math.inf])
def test_a_number_that_json_lacks_is_refused_by_its_place(number):
    with pytest.raises(ValueError, match=rf"noise\.std\.1: expected a finite number, got {number}"):
        strict_json({"noise": {"std": (0.5, number)}})
    with pytest.raises(ValueError, match="the value: expected a finite number"):
        strict_json(number)


def test_finite_numbers_are_written_as_ever():
    data = {"b": [1.5, 2, True, None, "…"], "a": {}}
    assert strict_json(data, indent=2, sort_keys=True) == json.dumps(data, indent=2, sort_keys=True)
    assert strict_json(data, ensure_ascii=False) == json.dumps(data, ensure_ascii=False)


def test_none_stands_for_what_is_not_finite():
    assert finite({"a": (math.nan, 1.5), "b": {"c": [math.inf]}}) == {"a": [None, 1.5], "b": {"c": [None]}}
