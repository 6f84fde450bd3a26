"""What YAML and JSON may say: plain data, no more of it than the file is long, and text that can be written."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import pytest

from swm.errors import RecipeError
from swm.files import yaml_file as yamlfile
from swm.plan.plan import LONGEST

NAMES = "abcdefghijklmnopqrstuvwxyz"


def doubled(first: str, twice: str) -> str:
    """Lines of which each names the one above it twice."""
    lines = [f"a: &a {first}"]
    lines += [f"{name}: &{name} {twice.format(above)}" for above, name in itertools.pairwise(NAMES)]
    return "\n".join(lines)


@pytest.mark.parametrize("text", [doubled("[x]", "[*{0}, *{0}]"), doubled("{x: 1}", "{{<<: [*{0}, *{0}]}}")])
def test_aliases_of_aliases_are_not_written_out(text: str) -> None:
    start = time.perf_counter()
    with pytest.raises(RecipeError, match="aliases make more than 100,000 values"):
        yamlfile.parse(text)
    assert time.perf_counter() - start < 5


def test_what_an_alias_names_is_a_value_of_its_own() -> None:
    data, _ = yamlfile.parse("a: &x {b: [1]}\nc: *x\nd: {<<: *x, e: 2}")
    data["c"]["b"].append(2)
    assert data == {"a": {"b": [1]}, "c": {"b": [1, 2]}, "d": {"b": [1], "e": 2}}


def test_json_is_read_as_json_with_its_lines() -> None:
    data = {"a": "\U0001f600\t/", "b": [1, -0.5, 1e5, True, None], "c": {"d": 'say "hi"\\'}}
    read, lines = yamlfile.parse(json.dumps(data, indent="\t"))
    assert read == data
    assert lines["c", "d"] == 11
    assert yamlfile.parse('{"a":"x\\/y"}')[0] == {"a": "x/y"}


@pytest.mark.parametrize(
    "text", ["!!bool x", "!!int x", "!!float x", "!!int [1]", "!!timestamp x", "!!binary x", "!!set {a}", "!!omap [a]"]
)
def test_a_tag_that_does_not_fit_is_an_error(text: str) -> None:
    with pytest.raises(RecipeError, match="not valid YAML"):
        yamlfile.parse(f"a: {text}")


def test_half_a_character_is_refused_and_a_whole_one_read() -> None:
    with pytest.raises(RecipeError, match=r":2: b: found '\\ud83d', with a half of a character"):
        yamlfile.parse('a: 1\nb: "\\ud83d"')
    assert yamlfile.parse('"\\ud83d\\ude00"')[0] == "\U0001f600"


def test_a_file_is_read_with_its_mark_and_no_further_than_it_may_be_long(tmp_path: Path) -> None:
    file = tmp_path / "a.yaml"
    file.write_bytes(b"\xef\xbb\xbfa: 1\n")
    assert yamlfile.read("recipe", file)[0] == {"a": 1}
    with pytest.raises(RecipeError, match=r"plan .*a.yaml cannot be read: it is longer than 4 bytes"):
        yamlfile.read("plan", file, 4)
    with pytest.raises(RecipeError, match="recipe /dev/zero cannot be read: it is longer than 16,777,216 bytes"):
        yamlfile.read("recipe", Path("/dev/zero"))
    assert LONGEST > yamlfile.LONGEST
