"""Recorded numbers survive a kill in the middle of a line."""

from __future__ import annotations

from pathlib import Path

from swm.cache.recorded_numbers import RecordedNumbers


def test_numbers_are_found_again_and_torn_lines_are_not(tmp_path: Path) -> None:
    file = tmp_path / "numbers.jsonl"
    numbers = RecordedNumbers(file, {"what": "losses"})
    assert numbers.get("a") is None
    numbers.put("a", 1.5)
    with file.open("a") as lines:
        lines.write('\n["b", 2')
    RecordedNumbers(file, {"what": "losses"}).put("c", 3.0)
    again = RecordedNumbers(file, {"what": "losses"})
    assert [again.get(name) for name in ("a", "b", "c")] == [1.5, None, 3.0]
