"""Only a finished result that was checked, was not rejected and was not changed is pushed."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from swm.errors import HubError
from swm.hub.contents import contents

Result = Callable[..., Path]
REJECTED = {"accepted": False, "perplexity": {"ratio": 1.5, "limit": "at most 1.2", "accepted": False}}


def test_all_that_swm_wrote_goes_but_what_is_for_this_machine(result: Result) -> None:
    found = contents(result())
    names = ["README.md", "config.json", "model.safetensors", "report.json", "swm-manifest.json"]
    assert list(found.files) == names
    assert found.left_out == {"timing.json": "it tells of this machine"}
    assert found.notes == []


def test_a_card_may_be_edited_and_a_license_and_gguf_files_may_stand_beside(result: Result, tmp_path: Path) -> None:
    folder = result()
    (folder / "README.md").write_text((folder / "README.md").read_text() + "\nA word of mine.\n")
    (folder / "LICENSE").write_text("all rights are yours")
    (folder / "inside.gguf").write_bytes(b"GGUF and more")
    (tmp_path / "beside.gguf").write_bytes(b"GGUF and more")
    found = contents(folder, [tmp_path / "beside.gguf", folder / "inside.gguf"])
    assert {"LICENSE", "inside.gguf", "beside.gguf"} < found.files.keys()
    assert found.notes == [
        "README.md was changed after swm wrote it",
        "LICENSE is not of swm's own result",
        "inside.gguf is not of swm's own result",
    ]


def change(name: str, text: str | None) -> Callable[[Path], None]:
    """What happens to a file of a result."""

    def happen(folder: Path) -> None:
        if text is None:
            (folder / name).unlink()
            return
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text(text)

    return happen


@pytest.mark.parametrize(
    ("happens", "says"),
    [
        (change("swm-manifest.json", None), "has no swm-manifest.json, so it is no finished result"),
        (change("swm-manifest.json", "[]"), "holds what swm did not write: config.json, model"),
        (change("model.safetensors", "other"), "no longer what swm checked: model.safetensors was changed"),
        (change("config.json", None), "is not complete: config.json is gone"),
        (change("README.md", None), "is not complete: README.md is gone"),
        (change("notes.txt", "mine"), "holds what swm did not write: notes.txt; move that away"),
        (change("more/model.gguf", "GGUF"), "holds what swm did not write: more/model.gguf"),
        (change("model.gguf", "text"), "model.gguf is no GGUF file: it begins with b'text'"),
        (change(".swm-scratch-1-20260101T000000-ab/new", ""), "is being written to"),
        (change("report.json", "[]"), "report.json"),
        (change("report.json", None), "report .*report.json cannot be read"),
    ],
)
def test_anything_else_is_refused(result: Result, happens: Callable[[Path], None], says: str) -> None:
    folder = result()
    happens(folder)
    with pytest.raises(HubError, match=says):
        contents(folder)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        (
            {"acceptance": REJECTED},
            "was rejected by the `accept` of its recipe: perplexity is 1.500 times the original's, at most 1.2 is",
        ),
        ({"verification": None}, "holds no model that was loaded again and compared"),
    ],
)
def test_a_result_that_swm_did_not_accept_is_refused(result: Result, changes: dict[str, Any], says: str) -> None:
    with pytest.raises(HubError, match=says):
        contents(result(**changes))


def test_a_result_that_was_accepted_goes(result: Result) -> None:
    assert contents(result(acceptance={"accepted": True})).files


def test_what_is_no_folder_is_refused_with_the_nearest_name(result: Result, tmp_path: Path) -> None:
    folder = result()
    with pytest.raises(HubError, match=r"resul is no folder; .* Did you mean '.*result'"):
        contents(tmp_path / "resul")
    with pytest.raises(HubError, match="is no folder"):
        contents(folder / "config.json")


def test_gguf_files_from_elsewhere_are_checked(result: Result, tmp_path: Path) -> None:
    folder = result()
    (folder / "model.gguf").write_bytes(b"GGUF of one")
    (tmp_path / "model.gguf").write_bytes(b"GGUF of another")
    (tmp_path / "text.gguf").write_text(json.dumps({}))
    (tmp_path / "model.bin").write_bytes(b"GGUF")
    for name, says in {
        "model.gguf": "a file of that name is in the folder",
        "text.gguf": "is no GGUF file",
        "model.bin": r"its name does not end in \.gguf",
        "gone.gguf": "cannot be read: No such file",
    }.items():
        with pytest.raises(HubError, match=says):
            contents(folder, [tmp_path / name])


@pytest.mark.parametrize("level", ["fast", "none"])
def test_what_was_not_verified_in_full_is_pushed_only_when_that_is_said(result: Result, level: str) -> None:
    folder = result(verification={"level": level})
    with pytest.raises(HubError, match=f"saved with verify: {level}, .* --unverified"):
        contents(folder)
    assert contents(folder, unverified=True).notes == [
        f"the result was not loaded and run after saving (verify: {level})"
    ]
