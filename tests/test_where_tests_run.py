"""Tests run in folders of their own, wherever they are started."""

from __future__ import annotations

from pathlib import Path


def test_a_relative_path_leads_into_the_folder_of_the_test(tmp_path: Path) -> None:
    assert Path.cwd() == tmp_path.resolve()
