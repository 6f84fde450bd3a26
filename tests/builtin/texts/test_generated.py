"""Text that the model writes: the same for the same seed, written once and whole."""

from __future__ import annotations

import json
import string
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swm.builtin.texts.generated import Generated
from swm.errors import TextError
from swm.interfaces.progress import Silent
from swm.interfaces.text import DenseModel, WrittenText
from swm.plugins.loading import Plugins

SMALL = Generated(count=5, tokens=12, batch=2)


def tokenizer_of(**special: str) -> PreTrainedTokenizerFast:
    tokens = ["<pad>", "<s>", "</s>", "<unk>", *string.printable[:92]]
    made = Tokenizer(models.WordLevel({token: i for i, token in enumerate(tokens)}, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", **special)


@pytest.fixture
def dense(tiny, tmp_path: Path) -> DenseModel:
    return DenseModel(tiny("llama"), tokenizer_of(bos_token="<s>", eos_token="</s>"), "abc", tmp_path, Silent())


@pytest.fixture
def calls(dense: DenseModel, monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The keywords of every `generate`, with its answer as `output`."""
    made: list[dict[str, Any]] = []
    generate: Callable[..., Any] = dense.model.generate

    def watched(**options: Any) -> Any:
        made.append({**options, "output": generate(**options)})
        return made[-1]["output"]

    monkeypatch.setattr(dense.model, "generate", watched)
    return made


def files(folder: Path) -> list[str]:
    return sorted(path.suffix for path in (folder / "generated").iterdir())


def test_so_many_documents_of_at_most_so_many_tokens_are_written(dense: DenseModel, calls) -> None:
    found = SMALL.written_by(dense)
    assert len(found) == 5
    assert [len(call["input_ids"]) for call in calls] == [2, 2, 1]
    outputs = [row for call in calls for row in call["output"]]
    assert all(len(row) <= 12 and row[0] == 1 for row in outputs)
    assert list(found) == dense.tokenizer.batch_decode(outputs, skip_special_tokens=True)
    assert all(document and "<s>" not in document for document in found)


def test_it_is_sampled_as_asked(dense: DenseModel, calls) -> None:
    replace(SMALL, temperature=0.5, top_p=0.25).written_by(dense)
    assert {(c["do_sample"], c["temperature"], c["top_p"], c["top_k"]) for c in calls} == {(True, 0.5, 0.25, 0)}


def test_without_a_first_token_each_begins_with_one_of_the_vocabulary(dense: DenseModel, calls) -> None:
    replace(SMALL, count=40, batch=40).written_by(replace(dense, tokenizer=tokenizer_of(eos_token="</s>")))
    begun = calls[0]["input_ids"][:, 0]
    assert len(begun.unique()) > 20
    # The pad token has no name here; 2 and 3 are special.
    assert set(begun.tolist()) <= {0, 1, *range(4, 96)}
    assert calls[0]["pad_token_id"] == 2


def test_drawn_beginnings_are_plain_tokens_whatever_the_first_token_is(dense: DenseModel, calls) -> None:
    replace(SMALL, count=40, batch=40, begin="drawn").written_by(dense)
    begun = calls[0]["input_ids"][:, 0]
    assert len(begun.unique()) > 20
    assert not {1, 2, 3} & set(begun.tolist())


def test_the_same_seed_writes_the_same_and_another_one_something_else(dense: DenseModel, tmp_path: Path) -> None:
    one = SMALL.written_by(dense)
    torch.manual_seed(999)
    assert SMALL.written_by(replace(dense, cache=tmp_path / "other")) == one
    assert replace(SMALL, seed=1).written_by(dense) != one


def test_random_numbers_outside_are_not_touched(dense: DenseModel) -> None:
    before = torch.get_rng_state()
    SMALL.written_by(dense)
    assert torch.equal(torch.get_rng_state(), before)


def test_the_second_time_it_is_read(dense: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = SMALL.written_by(dense)
    [file] = (tmp_path / "generated").iterdir()
    assert json.loads(file.read_text(encoding="utf-8")) == one
    monkeypatch.setattr(dense.model, "generate", lambda **options: pytest.fail("written again"))
    assert Generated(**vars(SMALL)).written_by(dense) == one
    file.write_text('["kept"]', encoding="utf-8")
    assert SMALL.written_by(dense) == ["kept"]


@pytest.mark.parametrize(
    "content",
    [b"", b'["a", "b', b"{}", b"[]", b"null", b'["a", 3]', b"\xff\xfe", b'["\\ud800"]', b"[" * 100_000, None],
    ids=["empty", "cut off", "no list", "nothing in it", "null", "a number", "no UTF-8", "surrogate", "deep", "folder"],
)
def test_what_was_damaged_is_written_anew_with_a_note(dense: DenseModel, tmp_path: Path, content: bytes | None) -> None:
    one = SMALL.written_by(dense)
    [file] = (tmp_path / "generated").iterdir()
    file.unlink()
    if content is None:
        file.mkdir()
    else:
        file.write_bytes(content)
    notes: list[str] = []
    assert SMALL.written_by(replace(dense, note=notes.append)) == one
    [note] = notes
    assert note.startswith(f"the text that the model had written, {file.name}, was damaged and was written anew (")
    assert json.loads(file.read_text(encoding="utf-8")) == one
    assert SMALL.written_by(replace(dense, note=pytest.fail)) == one


@pytest.mark.parametrize(
    "change",
    [{"count": 6}, {"tokens": 13}, {"temperature": 0.9}, {"top_p": 0.9}, {"seed": 1}, {"batch": 3}, {"begin": "drawn"}],
)
def test_other_parameters_are_another_text(dense: DenseModel, calls, tmp_path: Path, change: dict[str, Any]) -> None:
    SMALL.written_by(dense)
    replace(SMALL, **change).written_by(dense)
    assert files(tmp_path) == [".json", ".json"]


def test_another_model_writes_another_text(dense: DenseModel, tmp_path: Path) -> None:
    SMALL.written_by(dense)
    SMALL.written_by(replace(dense, fingerprint="other"))
    assert files(tmp_path) == [".json", ".json"]


@pytest.mark.parametrize("error", [KeyboardInterrupt(), OSError("No space left")])
def test_what_was_not_written_to_its_end_is_not_there(
    dense: DenseModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    def fails(*args: Any) -> None:
        raise error

    with monkeypatch.context() as patch:
        patch.setattr("swm.files.writing.os.replace", fails)
        with pytest.raises(type(error)):
            SMALL.written_by(dense)
    assert files(tmp_path) == []
    assert len(SMALL.written_by(dense)) == 5
    assert files(tmp_path) == [".json"]


@pytest.mark.parametrize("name", ["llama", "gpt2"])
def test_more_tokens_than_the_model_takes_are_refused(tiny, dense: DenseModel, tmp_path: Path, name: str) -> None:
    with pytest.raises(TextError, match=r"generated text of 65 tokens; the model takes at most 64.*tokens: 64"):
        Generated(count=2, tokens=65).written_by(replace(dense, model=tiny(name)))
    assert len(Generated(count=2, tokens=64).written_by(replace(dense, model=tiny(name)))) == 2


def test_outside_a_run_there_is_no_such_text() -> None:
    assert Generated.from_model
    with pytest.raises(TextError, match="generated text serves calibration and recovery in a run"):
        Generated().documents("calibration")


def test_what_was_written_tells_the_name_and_parameters_of_its_source() -> None:
    written = WrittenText(SMALL, ["a", "b"])
    assert list(written.documents("calibration")) == ["a", "b"]
    assert (written.spec(), written.title(), written.examples()) == (SMALL.spec(), "generated", None)


def test_the_registry_builds_it(plugins: Plugins) -> None:
    assert plugins.registry.build("text", "generated") == Generated()
    assert plugins.registry.build("text", SMALL.spec()) == SMALL
