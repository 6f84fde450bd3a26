"""Where a result goes is decided before the run: links, names, what is read, and what the user has put there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from typer.testing import CliRunner

from swm.cli import app
from swm.errors import CheckpointError
from swm.files import yaml_file as yamlfile
from swm.files.manifest import EARLIER, MANIFEST, check_ours, write_manifest
from swm.files.outputs import check_apart, check_inputs, output_file, output_folder

REPORT = "report.json"


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


@pytest.fixture
def ours(tmp_path: Path) -> Path:
    """A folder that swm wrote."""
    folder = tmp_path / "out"
    folder.mkdir()
    (folder / REPORT).write_text("{}")
    (folder / "model.safetensors").write_bytes(b"weights")
    write_manifest(folder)
    return folder


def test_a_home_folder_is_meant_where_a_tilde_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    assert output_folder("~/deep/out", False, REPORT) == tmp_path / "deep" / "out"
    assert output_file("~/plan.yaml", "plan") == tmp_path / "plan.yaml"
    assert names(tmp_path) == []


def test_a_link_is_followed_where_it_leads_somewhere(tmp_path: Path, ours: Path) -> None:
    (tmp_path / "link").symlink_to(ours)
    assert output_folder(tmp_path / "link", True, REPORT) == ours


@pytest.mark.parametrize("decide", [lambda path: output_folder(path, True, REPORT), lambda p: output_file(p, "plan")])
def test_links_that_lead_nowhere_are_refused(tmp_path: Path, decide) -> None:
    (tmp_path / "dangling").symlink_to(tmp_path / "nothing")
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    (tmp_path / "below").symlink_to(tmp_path / "loop" / "more")
    for name in ("dangling", "loop", "below"):
        with pytest.raises(CheckpointError, match=f"{name}' cannot be used: .*choose another"):
            decide(tmp_path / name)
    assert names(tmp_path) == ["below", "dangling", "loop"]


@pytest.mark.parametrize("decide", [lambda path: output_folder(path, True, REPORT), lambda p: output_file(p, "plan")])
def test_a_name_may_be_as_long_as_the_file_system_takes(tmp_path: Path, decide) -> None:
    longest = tmp_path / ("x" * 255)
    assert decide(longest) == longest
    for name in ("x" * 256, "ü" * 128, "nul\0", "~nosuchuser/out"):
        with pytest.raises(CheckpointError, match="cannot be"):
            decide(tmp_path / name if name[0] != "~" else name)
    assert names(tmp_path) == []


def test_a_file_and_a_folder_in_a_file_are_refused(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointError, match="is a file"):
        output_folder(tmp_path / "file", True, REPORT)
    with pytest.raises(CheckpointError, match="Not a directory"):
        output_folder(tmp_path / "file" / "out", True, REPORT)
    with pytest.raises(CheckpointError, match="is a folder; name a file in it"):
        output_file(tmp_path, "plan")
    with pytest.raises(CheckpointError, match="does not exist"):
        output_file(tmp_path / "none" / "plan.yaml", "plan")


def test_the_model_and_the_output_lie_apart(tmp_path: Path) -> None:
    model = tmp_path / "model"
    model.mkdir()
    for output, why in ((tmp_path, "holds the model"), (model, "holds the model"), (model / "out", "lies inside")):
        with pytest.raises(CheckpointError, match=why):
            check_apart(output, model)
    check_apart(tmp_path / "model-out", model)


def test_what_is_read_must_not_lie_in_the_output(tmp_path: Path, ours: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("model.gguf", "text.txt", "plugin.py"):
        (ours / name).touch()
    (tmp_path / "link.txt").symlink_to(ours / "text.txt")
    settings = {"model": "", "stages": [{"recover": {"data": {"path": "", "prompts": ["hello\n" * 2000, "\0"]}}}]}
    check_inputs(ours, settings, [tmp_path / "recipe.yaml"])
    for read in ("model.gguf", "text.txt", "plugin.py"):
        with pytest.raises(CheckpointError, match=f"holds .*{read}, which is read"):
            check_inputs(ours, {**settings, "model": str(ours / read)})
        with pytest.raises(CheckpointError, match="which is read"):
            check_inputs(ours, settings, [ours / read])
    with pytest.raises(CheckpointError, match=r"link\.txt, which is read"):
        check_inputs(ours, {"stages": [{"recover": {"data": {"path": str(tmp_path / "link.txt")}}}]})
    (ours / "cache").mkdir()
    monkeypatch.setenv("SWM_CACHE", str(ours / "cache"))
    with pytest.raises(CheckpointError, match="cache, which is read"):
        check_inputs(ours, settings)


def test_files_of_the_user_are_named_and_stay(ours: Path) -> None:
    check_ours(ours)
    (ours / "notes.txt").write_text("mine")
    (ours / "sub").mkdir()
    with pytest.raises(CheckpointError, match=r"did not write, or what was changed since: notes\.txt, sub; move"):
        output_folder(ours, True, REPORT)
    assert (ours / "notes.txt").read_text() == "mine"


@pytest.mark.parametrize("content", [b"WEIGHTS", b"more weights"])
def test_a_file_that_was_changed_is_the_users(ours: Path, content: bytes) -> None:
    (ours / "model.safetensors").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"changed since: model\.safetensors;"):
        output_folder(ours, True, REPORT)


def test_the_manifest_tells_nothing_of_the_time_that_a_run_took(ours: Path) -> None:
    manifests = []
    for seconds in ("1", "23"):
        (ours / "timing.json").write_text(seconds)
        (ours / MANIFEST).unlink()
        write_manifest(ours)
        check_ours(ours)
        manifests.append((ours / MANIFEST).read_bytes())
    assert manifests[0] == manifests[1]


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"files": 1}', '{"files": {"report.json": 3}}'])
def test_a_damaged_manifest_gives_nothing_away(ours: Path, content: str) -> None:
    (ours / MANIFEST).write_text(content)
    with pytest.raises(CheckpointError, match=r"model\.safetensors"):
        output_folder(ours, True, REPORT)


def test_in_a_folder_without_a_manifest_the_known_names_are_ours(ours: Path) -> None:
    (ours / MANIFEST).unlink()
    output_folder(ours, True, REPORT)
    (ours / "model.gguf").touch()
    with pytest.raises(CheckpointError, match=r"model\.gguf"):
        output_folder(ours, True, REPORT)


@pytest.mark.parametrize(
    "mine",
    [
        *("tokenizer_notes/why.txt", "tokenizer_notes.txt", "tokenizer.json/notes.txt", "vocab.mine", "my.model"),
        *("LICENSES/mine.txt", "LICENSE-of-mine", "chat_template_draft.jinja", "similarity.odt", "README.md/notes.txt"),
        *("model-first-of-every.safetensors", "model-abcde-of-fghij.safetensors", "notes/report.json"),
    ],
)
def test_in_a_folder_without_a_manifest_names_alike_are_the_users(ours: Path, mine: str) -> None:
    (ours / MANIFEST).unlink()
    (ours / mine).parent.mkdir(exist_ok=True)
    (ours / mine).write_text("mine")
    with pytest.raises(CheckpointError, match=f"holds what swm did not write.*: {re.escape(mine)}; move"):
        output_folder(ours, True, REPORT)


def test_in_a_folder_without_a_manifest_an_empty_folder_and_a_link_are_the_users(ours: Path, tmp_path: Path) -> None:
    (ours / MANIFEST).unlink()
    (ours / "README.md").mkdir()
    (tmp_path / "vocab.json").touch()
    (ours / "vocab.json").symlink_to(tmp_path / "vocab.json")
    with pytest.raises(CheckpointError, match=r": README\.md, vocab\.json; move"):
        output_folder(ours, True, REPORT)


def test_what_swm_wrote_before_manifests_is_replaced_whole(ours: Path) -> None:
    (ours / MANIFEST).unlink()
    for name in (*EARLIER, "model-00001-of-00002.safetensors"):
        (ours / name).touch()
    assert output_folder(ours, True, REPORT) == ours


def test_a_plan_over_one_with_tensors_leaves_none_of_them(tmp_path: Path, stories: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        yamlfile.dump(
            {
                "model": str(stories),
                "calibration": {"samples": 2, "seq_len": 16},
                "stages": [{"depth": {"pruner": "last", "target": {"layers": 1}}}],
            }
        )
    )
    plan = tmp_path / "plan.yaml"
    (tmp_path / "plan.fitted.safetensors").touch()
    done = CliRunner().invoke(app, ["plan", str(recipe), "-o", str(plan), "-q"])
    assert done.exit_code == 0, done.output
    assert json.loads(json.dumps(yamlfile.parse(plan.read_text())[0]))["swm_plan"] == 1
    assert names(tmp_path) == ["plan.yaml", "recipe.yaml"]
