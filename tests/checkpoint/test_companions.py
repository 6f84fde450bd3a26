"""What a saved model takes over from its parent: the files of its tokenizer, whole, and nothing from elsewhere."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from transformers import GenerationConfig, utils

from swm.checkpoint.companions import check_companions, copy_companions, drop_code, keeps_code
from swm.checkpoint.reload import generation_values, tokenizer_facts
from swm.checkpoint.verification import verify_rest
from swm.errors import CheckpointError
from swm.testing import tiny_model
from swm.testing.tiny import tiny_tokenizer


@pytest.fixture
def parent(tmp_path: Path) -> Path:
    folder = tmp_path / "parent"
    tiny_tokenizer().save_pretrained(folder)
    (folder / "config.json").write_text("{}")
    (folder / "LICENSE").write_text("licence")
    return folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "saved"
    made.mkdir()
    return made


def names(folder: Path) -> list[str]:
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def test_every_tokenizer_and_template_file_that_transformers_knows_is_copied(parent: Path, folder: Path) -> None:
    templates = parent / utils.CHAT_TEMPLATE_DIR
    templates.mkdir()
    known = ["tekken.json", "tokenizer.model", "spiece.model", "chat_template.jinja", "chat_template.json"]
    known += ["processor_config.json", "video_preprocessor_config.json", "qwen.tiktoken", "vocab.txt", "merges.txt"]
    known += [f"{utils.CHAT_TEMPLATE_DIR}/tools.jinja", "special_tokens_map.json", "added_tokens.json", "NOTICE.txt"]
    for name in known:
        (parent / name).write_text("x")
    (parent / "pytorch_model.bin").write_text("x")
    (parent / "diary.txt").write_text("x")
    assert copy_companions(parent, folder) == []
    copied = ["LICENSE", "tokenizer.json", "tokenizer_config.json", *known]
    assert names(folder) == sorted(copied)


def test_nothing_that_lies_elsewhere_is_copied(parent: Path, folder: Path, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.mkdir()
    (secret / "key").write_text("secret")
    (parent / "LICENSE").unlink()
    (parent / "LICENSE").symlink_to(secret / "key")
    (parent / "LICENSE.loop").symlink_to(parent / "LICENSE.loop")
    (parent / "NOTICE").symlink_to(tmp_path / "nothing")
    (parent / "tokenizer_dir").symlink_to(secret)
    (parent / "tokenizer_own").mkdir()
    (parent / "vocab.txt").symlink_to(parent / "tokenizer.json")
    os.mkfifo(parent / "NOTICE.pipe")
    notes = copy_companions(parent, folder)
    assert names(folder) == ["tokenizer.json", "tokenizer_config.json", "vocab.txt"]
    assert notes == [
        "LICENSE was not copied: its link leads out of the model's folder",
        "LICENSE.loop was not copied: its link leads nowhere",
        "NOTICE was not copied: its link leads nowhere",
        "NOTICE.pipe was not copied: it is no regular file",
        "tokenizer_dir was not copied: its link leads out of the model's folder",
        "tokenizer_own was not copied: it is a folder",
    ]
    check_companions(parent)


def test_a_tokenizer_that_lies_elsewhere_is_refused_before_the_run(parent: Path, tmp_path: Path) -> None:
    (parent / "tokenizer.json").rename(tmp_path / "tokenizer.json")
    (parent / "tokenizer.json").symlink_to(tmp_path / "tokenizer.json")
    with pytest.raises(CheckpointError, match=r"tokenizer\.json would not be copied: its link leads out of"):
        check_companions(parent)


@pytest.mark.parametrize("kind", ["hub", "links"])
def test_links_into_the_hubs_cache_or_to_the_models_true_folder_are_followed(
    parent: Path, folder: Path, tmp_path: Path, kind: str
) -> None:
    repository = tmp_path / "models--owner--name"
    linked = repository / "snapshots" / "123" if kind == "hub" else tmp_path / "linked"
    linked.mkdir(parents=True)
    real = parent.rename(repository / "blobs") if kind == "hub" else parent
    for file in real.iterdir():
        (linked / file.name).symlink_to(file)
    check_companions(linked)
    assert copy_companions(linked, folder) == []
    assert names(folder) == ["LICENSE", "tokenizer.json", "tokenizer_config.json"]
    assert not any(file.is_symlink() for file in folder.iterdir())


def with_code(parent: Path, folder: Path, entry: Any) -> None:
    (parent / "modeling_mine.py").write_text("from .helper import x\n")
    (parent / "helper.py").write_text("x = 1\n")
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": entry}, "hidden": 1}))


def test_code_is_taken_along_where_the_user_allowed_it(parent: Path, folder: Path) -> None:
    with_code(parent, folder, "modeling_mine.Mine")
    assert copy_companions(parent, folder, trust_remote_code=True) == []
    assert keeps_code(folder)
    assert {"modeling_mine.py", "helper.py"} <= set(names(folder))


@pytest.mark.parametrize(
    ("entry", "trusted"),
    [
        ("modeling_mine.Mine", False),
        ("other/repository--modeling_mine.Mine", True),
        ("modeling_missing.Mine", True),
        (["modeling_missing.Mine", None], True),
        (3, True),
        ([None, None], True),
    ],
)
def test_code_that_is_not_in_the_folder_is_no_longer_named(parent: Path, folder: Path, entry: Any, trusted) -> None:
    with_code(parent, folder, entry)
    notes = copy_companions(parent, folder, trust_remote_code=trusted)
    assert notes == ["config.json: auto_map no longer names AutoModel, whose code is not in this folder"]
    assert json.loads((folder / "config.json").read_text()) == {"hidden": 1}
    assert not keeps_code(folder)
    assert "modeling_mine.py" not in names(folder)


def test_the_other_entries_of_an_auto_map_stay(folder: Path) -> None:
    (folder / "config.json").write_text(json.dumps({"auto_map": {"AutoModel": "a.A", "AutoConfig": "a.B"}}))
    drop_code(folder, "config.json", ["AutoModel"])
    assert json.loads((folder / "config.json").read_text()) == {"auto_map": {"AutoConfig": "a.B"}}


def rest_of(folder: Path) -> dict[str, Any]:
    """What a fresh process reads besides the model."""
    return {"generation": None, "tokenizer": tokenizer_facts(str(folder), False), "processor": "", "code": {}}


def test_a_tokenizer_that_gives_other_ids_is_found(parent: Path, folder: Path) -> None:
    copy_companions(parent, folder)
    model = tiny_model("llama")
    verify_rest(rest_of(folder), model, parent)
    data = json.loads((folder / "tokenizer.json").read_text())
    vocabulary = data["model"]["vocab"]
    vocabulary["H"], vocabulary["e"] = vocabulary["e"], vocabulary["H"]
    (folder / "tokenizer.json").write_text(json.dumps(data))
    with pytest.raises(CheckpointError, match=r"the saved tokenizer is not that of .*: ids of a text differ"):
        verify_rest(rest_of(folder), model, parent)


def test_another_chat_template_is_found(parent: Path, folder: Path) -> None:
    (parent / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}|{% endfor %}")
    copy_companions(parent, folder)
    model = tiny_model("llama")
    rest = rest_of(folder)
    assert rest["tokenizer"]["a conversation"] == "Hi.|Hello.|Why?|"
    verify_rest(rest, model, parent)
    (folder / "chat_template.jinja").write_text("{% for m in messages %}{{ m.content }}{% endfor %}")
    with pytest.raises(CheckpointError, match="chat templates, a conversation differ"):
        verify_rest(rest_of(folder), model, parent)


@pytest.mark.parametrize("content", [None, "{}"])
def test_a_tokenizer_that_is_lost_or_damaged_is_found(parent: Path, folder: Path, content: str | None) -> None:
    copy_companions(parent, folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        (folder / name).unlink()
    if content is not None:
        (folder / "tokenizer.json").write_text(content)
    with pytest.raises(CheckpointError, match="the saved tokenizer cannot be loaded: "):
        verify_rest(rest_of(folder), tiny_model("llama"), parent)


def test_another_generation_config_is_found(parent: Path, folder: Path) -> None:
    model = tiny_model("llama")
    copy_companions(parent, folder)
    rest = {**rest_of(folder), "generation": generation_values(model.generation_config)}
    verify_rest(rest, model, parent)
    rest["generation"] = generation_values(GenerationConfig(eos_token_id=5))
    with pytest.raises(CheckpointError, match=r"the saved generation config is not the one in memory: .*eos_token_id"):
        verify_rest(rest, model, parent)
