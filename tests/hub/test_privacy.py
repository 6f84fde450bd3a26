"""Nothing that is pushed tells where it was made."""

from __future__ import annotations

import getpass
import json
import platform
from collections.abc import Callable
from pathlib import Path

import pytest

from swm.errors import HubError
from swm.hub.contents import contents
from swm.hub.privacy import check_private

Result = Callable[..., Path]


def told(folder: Path) -> str:
    """What the check says; empty where it finds nothing."""
    try:
        check_private(folder, contents(folder).files)
    except HubError as error:
        return str(error)
    return ""


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(getpass, "getuser", lambda: "alice")
    monkeypatch.setattr(platform, "node", lambda: "gpu-07")
    monkeypatch.setenv("HOME", "/home/alice")


def test_what_swm_writes_tells_nothing(result: Result) -> None:
    harmless = {
        "chat_template.jinja": "{{ '/think' }}</section> https://huggingface.co/owner/name a/b/c 1/2/3 /usr/bin/env",
        "tokenizer_config.json": json.dumps({"name_or_path": "/fsx/of/others/model", "owner": "alice", "x": "/home/"}),
        "tokenizer.json": json.dumps({"model": {"vocab": {"/home": 1, "gpu-07": 2}}}),
    }
    assert told(result(harmless)) == ""


@pytest.mark.parametrize(
    ("name", "text", "says"),
    [
        ("tokenizer_config.json", '{"name_or_path": "/data/of/mine/llama"}', "/data/of/mine/llama"),
        ("tokenizer_config.json", '{"name_or_path": "\\/data\\/of\\/mine\\/llama"}', "/data/of/mine/llama"),
        ("chat_template.jinja", "{# /home/alice/x #}", "/home/alice"),
        ("chat_template.jinja", "{# /Users/alice/x #}", "/Users/alice"),
        ("plan.yaml", "ran: alice@gpu-07", "alice@gpu-07"),
        ("report.html", "<p>on gpu-07.</p>", "gpu-07"),
        ("report.html", "<p>X-9</p>", "X-9"),
        ("report.html", "<p>&#x2F;home&#x2F;alice&#x2F;x</p>", "/home/alice"),
        ("tokenizer.json", '{"model": {"vocab": {"/home/alice": 1}}}', "/home/alice"),
        ("tokenizer.model", "\0\1/data/of/mine/llama\2", "/data/of/mine/llama"),
    ],
)
def test_paths_users_and_hosts_are_named(result: Result, name: str, text: str, says: str) -> None:
    assert f"{name} holds {says!r}" in told(result({name: text}))


def test_any_path_that_is_on_this_machine_is_named(result: Result, tmp_path: Path) -> None:
    folder = result()
    (folder / "README.md").write_text(f"---\n---\nfrom file://{tmp_path}/model, and (/no/such/thing)")
    assert f"README.md holds '{tmp_path}/model'. Correct it" in told(folder)


def test_the_heads_of_weights_and_gguf_files_are_read(result: Result) -> None:
    folder = result()
    header = json.dumps({"__metadata__": {"from": "/data/of/mine/llama"}}).encode()
    weights = len(header).to_bytes(8, "little") + header + b"/data/of/mine/llama"
    (folder / "model.gguf").write_bytes(b"GGUF" + weights)
    assert "model.gguf holds '/data/of/mine/llama'" in told(folder)
    files = {"model.safetensors": folder / "of_others.safetensors"}
    files["model.safetensors"].write_bytes(weights)
    with pytest.raises(HubError, match=r"model\.safetensors holds '/data/of/mine/llama'"):
        check_private(folder, files)
    files["model.safetensors"].write_bytes((2).to_bytes(8, "little") + b"{}" + b"/data/of/mine/llama")
    check_private(folder, files)


def test_a_host_whose_name_is_a_word_tells_nothing(result: Result, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(platform, "node", lambda: "llama")
    monkeypatch.setattr(getpass, "getuser", lambda: "root")
    assert told(result({"plan.yaml": "llama /home/ root@llama"})) == ""
