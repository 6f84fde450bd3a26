"""A push, from the command to a server that speaks the Hub's protocol."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import huggingface_hub
import pytest
from fake_hub import FakeHub
from transformers import AutoModelForCausalLM
from typer.testing import CliRunner

import swm
from swm.cli import app
from swm.errors import HubError
from swm.files.manifest import write_manifest
from swm.files.yaml_file import dump
from swm.hub.pushing import prepare

Result = Callable[..., Path]
NAME = "me/small-one"
# huggingface_hub hands files to httpx in a way that is going out of use.
pytestmark = pytest.mark.filterwarnings("ignore:Use 'content:DeprecationWarning")


def test_a_real_result_is_pushed_and_loads_from_what_the_hub_got(stories: Path, hub: FakeHub, tmp_path: Path) -> None:
    recipe = {
        "model": str(stories),
        "stages": [{"depth": {"pruner": "last", "unit": "mlp", "target": {"blocks": 1}}}],
        "calibration": {
            "text": {"name": "list", "texts": ["Once upon a time there was a little cat."]},
            "samples": 1,
            "seq_len": 8,
        },
        "layout": "custom",
        "output": str(tmp_path / "out"),
    }
    (tmp_path / "recipe.yaml").write_text(dump(recipe))
    runner = CliRunner()
    assert runner.invoke(app, ["compress", str(tmp_path / "recipe.yaml"), "--quiet"]).exit_code == 0
    done = runner.invoke(app, ["push", str(tmp_path / "out"), NAME])
    assert done.exit_code == 0, done.output
    assert f"pushed: {hub.address}/{NAME}/commit/" in done.stdout
    files = hub.repositories[NAME]
    saved = {file.name: file.read_bytes() for file in (tmp_path / "out").iterdir() if file.name != "timing.json"}
    assert files == saved
    assert "/lfs/" in " ".join(hub.requests)
    assert not [name for name, content in files.items() if str(tmp_path).encode() in content]
    (tmp_path / "got").mkdir()
    for name, content in files.items():
        (tmp_path / "got" / name).write_bytes(content)
    model = AutoModelForCausalLM.from_pretrained(tmp_path / "got", trust_remote_code=True)
    report = json.loads(files["report.json"])
    assert sum(p.numel() for p in model.parameters()) == report["compressed"]["parameters"]
    assert "trust_remote_code=True" in files["README.md"].decode()


def test_python_pushes_too_and_a_repository_keeps_what_swm_did_not_push(result: Result, hub: FakeHub) -> None:
    folder = result()
    (folder / "model.gguf").write_bytes(b"GGUF and more")
    hub.repositories[NAME] = {"notes.md": b"mine"}
    done = swm.push(folder, NAME, private=True)
    assert done.commit == f"{hub.address}/{NAME}/commit/0123456789abcdef0123456789abcdef01234567"
    assert hub.made == [{"name": "small-one", "organization": "me", "visibility": "private"}]
    assert hub.repositories[NAME].keys() == {*done.files, "notes.md"}
    assert hub.commits == [f"Upload a result of swm {swm.__version__}"]


def test_weights_of_an_earlier_push_go(result: Result, hub: FakeHub) -> None:
    folder = result({"model-00001-of-00002.safetensors": "", "model.safetensors.index.json": "{}"})
    swm.push(folder, NAME)
    hub.repositories[NAME]["mine.txt"] = b"mine"
    for name in ("model-00001-of-00002.safetensors", "model.safetensors.index.json", "swm-manifest.json"):
        (folder / name).unlink()
    write_manifest(folder)
    done = swm.push(folder, NAME)
    assert hub.repositories[NAME].keys() == {*done.files, "mine.txt"}
    assert "model.safetensors.index.json of an earlier push was removed" in done.notes


def test_a_dry_run_tells_everything_and_sends_nothing(result: Result, hub: FakeHub) -> None:
    done = CliRunner().invoke(app, ["push", str(result()), NAME, "--dry-run", "--private"])
    assert done.exit_code == 0, done.output
    for line in (
        "  config.json\n",
        "stays here  timing.json: it tells of this machine",
        "base_model: HuggingFaceTB/SmolLM2-135M\n",
        "result: boolq, acc (lm-eval 0.4.13, 0-shot, the first 200 items of each task): 56.0\n",
        f"to: {NAME}, if it is new: private\n",
        "nothing was sent: --dry-run\n",
    ):
        assert line in done.stdout
    assert hub.requests == []


@pytest.mark.parametrize("lacks", ["network", "token"])
def test_without_network_or_token_it_is_dry_and_says_so(
    result: Result, hub: FakeHub, monkeypatch: pytest.MonkeyPatch, lacks: str
) -> None:
    if lacks == "network":
        monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    else:
        monkeypatch.setattr(huggingface_hub, "get_token", lambda: None)
    folder = result()
    done = CliRunner().invoke(app, ["push", str(folder), NAME, "--json"])
    assert isinstance(done.exception, HubError)
    says = "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE is set" if lacks == "network" else "there is no token of the Hub"
    assert f"nothing was sent to {NAME}: {says}" in str(done.exception)
    told = json.loads(done.stdout)
    assert told["commit"] is None
    assert told["files"]["config.json"] == 23
    with pytest.raises(HubError, match=says):
        swm.push(folder, NAME)
    assert hub.requests == []


def test_what_the_hub_refuses_is_told_in_a_line(result: Result, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = result()
    hub.refuses_cards = True
    with pytest.raises(
        HubError, match=r"nothing was committed to me/small-one .*Invalid metadata in README\.md.*license is none"
    ):
        swm.push(folder, NAME)
    assert hub.repositories[NAME] == {}
    monkeypatch.setenv("HF_TOKEN", "hf_of_another")
    with pytest.raises(HubError, match=r"nothing was committed to me/small-one .*401"):
        swm.push(folder, NAME)


def test_a_hub_that_is_not_there_is_told(result: Result, hub: FakeHub, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(
        HubError, match=r"nothing was committed to me/small-one at http://127\.0\.0\.1:9 \(ConnectError"
    ):
        swm.push(result(), NAME)


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("small-one", "does not say whose it is; write OWNER/NAME, as in me/small-one"),
        ("me/small one", "has no name that the Hub takes"),
        ("a/b/c", "has no name that the Hub takes"),
        ("", "has no name that the Hub takes|does not say whose"),
    ],
)
def test_a_name_that_the_hub_would_not_take_is_told_first(name: str, says: str) -> None:
    with pytest.raises(HubError, match=says):
        prepare("no/such/folder", name)


def test_a_card_that_cannot_be_read_is_told(result: Result) -> None:
    folder = result()
    (folder / "README.md").write_text("---\nmodel-index: 3\n---\n")
    with pytest.raises(HubError, match=r"README\.md is no model card that the Hub takes"):
        prepare(folder, NAME)
