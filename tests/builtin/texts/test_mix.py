"""The text source `mix`: how it is written, how much it takes of each source, and what it refuses."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from tokenizers import Regex, Tokenizer, models, pre_tokenizers
from transformers import PreTrainedTokenizerFast

from swm.builtin.texts.mix import Mix
from swm.errors import SwmError, TextError
from swm.interfaces.text import Share, TextSource, leaves, needs_model, titles_of
from swm.measure.perplexity import PerplexityProtocol, cut_windows
from swm.plugins.loading import load_plugins
from swm.plugins.registry import require_interface
from swm.text.calibration import draw_samples
from swm.training.training_set import check_training_text, training_set

REGISTRY = load_plugins().registry
A, B = ["a" * 40, "aa" * 50], ["b" * 30]
MIX = {"mix": [{"text": A, "share": 0.7}, {"text": {"name": "list", "texts": B}, "share": 0.3}]}


def tokenizer_of() -> PreTrainedTokenizerFast:
    """A tokenizer of letters: "a" is 4, "b" is 5, "c" is 6, anything else 3."""
    letters = {token: i for i, token in enumerate(["<pad>", "<s>", "</s>", "<unk>", "a", "b", "c"])}
    made = Tokenizer(models.WordLevel(letters, "<unk>"))
    made.pre_tokenizer = pre_tokenizers.Split(Regex(r"[\s\S]"), "isolated")
    return PreTrainedTokenizerFast(tokenizer_object=made, unk_token="<unk>", pad_token="<pad>")


def build(value: Any) -> TextSource:
    return require_interface(TextSource, REGISTRY.build("text", value))


def files(folder: Path) -> tuple[str, str]:
    one, other = folder / "one.jsonl", folder / "other.txt"
    one.write_text(json.dumps({"text": "a" * 300}))
    other.write_text("b" * 100)
    return str(one), str(other)


def test_a_mapping_and_a_list_are_read_and_written_alike(tmp_path: Path) -> None:
    one, other = files(tmp_path)
    short, named = build({"mix": {one: 0.7, other: 0.3}}), build({"name": "mix", "of": {one: 0.7, other: 0.3}})
    listed = build({"mix": [{"text": {"name": "file", "path": one}, "share": 0.7}, {"text": other, "share": 0.3}]})
    assert short == named == listed == build(short.spec()) == build(short)
    assert short.title() == f"mix of {one} (0.7), {other} (0.3)"
    short.check()


def test_samples_are_in_the_shares_and_each_says_its_source(tmp_path: Path) -> None:
    one, other = files(tmp_path)
    calibration = draw_samples(tokenizer_of(), build({"mix": {one: 0.7, other: 0.3}}), samples=10, seq_len=8, seed=0)
    a, b = 4, 5
    assert [row.unique().tolist() for row in calibration.ids] == [[{one: a, other: b}[t]] for t in calibration.titles]
    assert calibration.record()["tokens_used"] == [
        {"source": one, "tokens": 56, "samples": 7},
        {"source": other, "tokens": 24, "samples": 3},
    ]
    assert [used.searched for used in calibration.tokens_used(4)] == [24, 8]
    alone = draw_samples(tokenizer_of(), build(one), samples=7, seq_len=8, seed=0)
    assert torch.equal(calibration.ids[[title == one for title in calibration.titles]], alone.ids)


def test_sources_of_one_title_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "both.jsonl"
    file.write_text(json.dumps({"text": "a" * 300, "more": "b" * 300}))
    fields = [{"text": {"name": "file", "path": str(file), "field": field}, "share": 0.5} for field in ("text", "more")]
    mix, names = build({"mix": fields}), [f"{file} (field text)", f"{file} (field more)"]
    calibration = draw_samples(tokenizer_of(), mix, samples=4, seq_len=8, seed=0)
    assert sorted(used["source"] for used in calibration.record()["tokens_used"]) == sorted(names)
    data = training_set(tokenizer_of(), mix, cutoff=8, limit=4, held_out=0, seed=0)
    assert sorted(used.source for used in data.tokens_used(1, 4, 0)) == sorted(names)
    used = cut_windows(tokenizer_of(), PerplexityProtocol(mix, seq_len=8, max_tokens=64)).record["tokens_used"]
    assert [one["source"] for one in used] == names


def test_what_is_long_is_numbered_and_equal_sources_are_one() -> None:
    texts = [build({"name": "list", "texts": [letter * 99]}) for letter in "aba"]
    assert titles_of([Share(text, 1 / 3) for text in texts]) == ["list (1)", "list (2)", "list (1)"]
    assert titles_of([Share(texts[0], 0.5), Share(texts[2], 0.5)]) == ["list", "list"]


def test_a_mix_of_mixes_is_one_of_their_sources() -> None:
    nested = build({"mix": [{"text": MIX, "share": 0.5}, {"text": ["c" * 50], "share": 0.5}]})
    assert [round(leaf.share, 6) for leaf in leaves(nested)] == [0.35, 0.15, 0.5]
    assert draw_samples(tokenizer_of(), nested, samples=6, seq_len=8, seed=0).ids.shape == (6, 8)


@pytest.mark.parametrize(
    ("value", "says"),
    [
        ({"python-doc": 1}, "unknown text 'python-doc'; .* Did you mean 'python-docs'?"),
        ({"python-docs": 0.5}, r"the shares of tokens add up to 0.5 \(0.5\); they must add up to 1"),
        ({"python-docs": 7, "list": 3}, "found the share 7 of 'python-docs'; a share is greater than 0, and at most 1"),
        ({"python-docs": 0}, "found the share 0"),
        ({"python-docs": True}, "found the share"),
        ({}, "write {c4.jsonl: 0.7"),
        ("python-docs", "found 'python-docs'; write {c4.jsonl: 0.7"),
        ([{"text": "python-docs", "shares": 1}], "has the keys share, text. Did you mean 'share'?"),
        ([{"text": "python-docs", "share": 0.5}] * 2, "'python-docs' stands in it twice"),
    ],
)
def test_what_is_no_mix_is_refused(value: Any, says: str) -> None:
    with pytest.raises(SwmError, match=says):
        build({"mix": value})


def test_other_keys_beside_a_mix_are_unknown() -> None:
    with pytest.raises(SwmError, match="unknown parameter 'seed' of 'mix'; allowed: of"):
        build({"mix": {"python-docs": 1}, "seed": 3})
    with pytest.raises(SwmError, match=r"a text needs a name; known: .*, python-docs, .*\. Did you mean 'mix'\?"):
        build({"mixx": {"python-docs": 1}})


def test_a_source_that_is_too_short_for_its_share_is_named() -> None:
    with pytest.raises(TextError, match=r"a share of 0.3 of 20 samples is 6: .* text 'list' has 30 \(enough for 3 "):
        draw_samples(tokenizer_of(), build(MIX), samples=20, seq_len=8, seed=0)
    with pytest.raises(TextError, match=r"a share of 0.3 of 1 samples is none of text 'list'"):
        draw_samples(tokenizer_of(), build(MIX), samples=1, seq_len=8, seed=0)


def test_a_training_ends_with_the_source_that_ends_first(tmp_path: Path) -> None:
    one, other = files(tmp_path)
    mix = build({"mix": {one: 0.5, other: 0.5}})
    data = training_set(tokenizer_of(), mix, cutoff=10, seed=0, held_out=2)
    used = data.tokens_used(len(data.pieces), 1, 0)
    assert [(each.source, each.tokens, each.predicted) for each in used] == [(one, 100, 90), (other, 90, 81)]
    assert data.read == {"ended_by": other}
    assert data.ended_by == (
        f"the mix to train on ends with '{other}', whose 10 pieces are all of its share of 0.5: 11 of 30 pieces of "
        f"'{one}' are used"
    )
    assert training_set(tokenizer_of(), mix, cutoff=10, seed=0, limit=8).ended_by == ""
    check_training_text(tokenizer_of(), mix, cutoff=10, held_out=2)


def test_a_perplexity_reads_the_shares_of_each(tmp_path: Path) -> None:
    one, other = files(tmp_path)
    mix = build({"mix": {one: 0.6, other: 0.4}})
    windows = cut_windows(tokenizer_of(), PerplexityProtocol(mix, seq_len=11, max_tokens=100))
    assert [(each["source"], each["tokens"]) for each in windows.record["tokens_used"]] == [(one, 54), (other, 36)]
    whole = cut_windows(tokenizer_of(), PerplexityProtocol(mix, seq_len=10))
    assert sum(map(len, whole.rows)) == 250
    with pytest.raises(TextError, match=r"has 100 tokens; its share of 0.4 of 400 tokens is 160"):
        cut_windows(tokenizer_of(), PerplexityProtocol(mix, seq_len=10, max_tokens=400))


def test_documents_come_by_their_shares_of_characters() -> None:
    mix = Mix((Share(build(["a" * 3] * 4), 0.75), Share(build(["b" * 3] * 2), 0.25)))
    assert [document[0] for document in mix.documents("calibration")] == ["a", "b", "a", "a", "a", "b"]


def test_what_the_model_writes_may_be_a_part() -> None:
    mix = build({"mix": {"generated": 0.5, "python-docs": 0.5}})
    assert needs_model(mix)
    assert not needs_model(build(MIX))
    assert not mix.separates()


def test_texts_in_memory_and_images_in_a_mix(tmp_path: Path) -> None:
    ids = torch.arange(4, 36).view(4, 8)
    mix = build({"mix": [{"text": ids, "share": 0.5}, {"text": A, "share": 0.5}]})
    drawn = draw_samples(tokenizer_of(), mix, samples=4, seq_len=8, seed=0)
    assert all(row in ids.tolist() for row in drawn.ids[::2].tolist())
    (tmp_path / "seen.jsonl").write_text(json.dumps({"text": "a", "image": None}))
    seen = build(
        {"mix": [{"text": {"name": "file", "path": str(tmp_path / "seen.jsonl"), "image": "image"}, "share": 1}]}
    )
    with pytest.raises(TextError, match="images are not read in a mix; leave image out"):
        seen.check()
