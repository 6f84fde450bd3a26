"""Perplexity: how the text is cut, what the presets stand for, and the value by its definition."""

from __future__ import annotations

import math
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
import transformers

from swm.builtin.texts.file import FileText
from swm.builtin.texts.inline import InlineText
from swm.errors import ModelError, RecipeError, TextError
from swm.interfaces.text import TextSource
from swm.measure.perplexity import PRESETS, PerplexityProtocol, TokenWindows, cut_windows, perplexity
from swm.plugins.construct import construct
from swm.plugins.loading import Plugins
from swm.report.comparison import Result, compare
from swm.report.record import Perplexity


class Letters:
    """A tokenizer whose tokens are letters: a is 3, b is 4, ...; 1 is BOS."""

    bos_token_id = 1

    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) - ord("a") + 3 for letter in text]}


def cut(plugins: Plugins, **settings: Any) -> TokenWindows:
    values = {"text": ["abcdefghij"], **settings}
    return cut_windows(Letters(), construct(PerplexityProtocol, values, plugins.registry.build))


@pytest.mark.parametrize(
    ("settings", "lengths", "scored"),
    [
        ({"seq_len": 4, "bos": "none"}, [4, 4, 2], 7),
        ({"seq_len": 4, "bos": "none", "rest": "dropped"}, [4, 4], 6),
        ({"seq_len": 4, "bos": "first"}, [4, 4, 3], 8),
        ({"seq_len": 4, "bos": "each"}, [4, 4, 4, 2], 10),
        ({"seq_len": 4, "bos": "none", "max_tokens": 5}, [4], 3),
    ],
)
def test_windows_do_not_overlap_and_say_their_protocol(plugins, settings, lengths, scored) -> None:
    windows = cut(plugins, **settings)
    assert [len(row) for row in windows.rows] == lengths
    assert windows.record["windows"] == len(lengths)
    assert windows.record["scored_tokens"] == scored
    assert windows.record["seq_len"] == 4


def test_a_preset_stands_for_all_that_it_names(plugins: Plugins) -> None:
    windows = cut(plugins, text=["a" * 300], preset="llm-pruner-128")
    # 301 tokens with the one BOS: two windows of 128, and 45 that fill none.
    assert [len(row) for row in windows.rows] == [128, 128]
    assert [int(row[0]) for row in windows.rows] == [1, 3]
    assert (windows.record["bos"], windows.record["rest"]) == ("first", "dropped")
    assert [len(row) for row in cut(plugins, text=["b" * 5000], preset="standard-2048").rows] == [2048, 2048]


def test_a_preset_beside_another_value_is_refused(plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match="preset standard-2048 has seq_len: 2048, found 512"):
        cut(plugins, preset="standard-2048", seq_len=512)
    assert cut(plugins, text=["c" * 2048], preset="standard-2048", seq_len=2048).record["windows"] == 1
    with pytest.raises(RecipeError, match=r"allowed: 'llm-pruner-128' or 'standard-2048'.*mean 'standard-2048'"):
        cut(plugins, preset="standard-2047")


def test_text_that_fills_no_window_is_refused(plugins: Plugins) -> None:
    with pytest.raises(TextError, match="has 10 tokens and fills no window of 128"):
        cut(plugins, seq_len=128, bos="none", rest="dropped")


class Fixed(torch.nn.Module):
    """Gives every next token the probability that stands for it, whatever came before."""

    def __init__(self, probabilities: list[float]) -> None:
        super().__init__()
        self.log = torch.nn.Parameter(torch.tensor(probabilities).log())

    def forward(self, input_ids: torch.Tensor, use_cache: bool) -> Any:
        return SimpleNamespace(logits=self.log.expand(*input_ids.shape, -1))


def test_the_value_is_weighted_by_token() -> None:
    model = Fixed([0.5, 0.25, 0.125, 0.125])
    rows = [torch.tensor([3, 0, 0, 0]), torch.tensor([0, 2])]
    found = perplexity(model, TokenWindows(rows, {}))
    # Three tokens of probability 1/2 and one of 1/8: (3 * 1 + 3) / 4 bits.
    assert found["value"] == pytest.approx(2**1.5)
    assert found["nats_per_token"] == pytest.approx(1.5 * math.log(2))


def test_scores_that_are_no_numbers_are_refused() -> None:
    with pytest.raises(ModelError, match="not a number or infinite"):
        perplexity(Fixed([math.nan, 1.0]), TokenWindows([torch.tensor([0, 1, 1])], {}))


WIKITEXT = " \n = Some Title = \n \n The first line . \n The second one . \n \n = = A part = = \n \n More text . \n"
# As `wikitext-2-raw-v1` has the same lines: each with its end, blank ones empty.
ROWS = [
    "",
    " = Some Title = \n",
    "",
    " The first line . \n",
    " The second one . \n",
    "",
    " = = A part = = \n",
    "",
    " More text . \n",
]


class Characters(Letters):
    def __call__(self, text: str, **options: Any) -> dict[str, list[int]]:
        return {"input_ids": [ord(letter) + 3 for letter in text]}


def measured_on(text: TextSource, **settings: Any) -> TokenWindows:
    return cut_windows(Characters(), PerplexityProtocol(text, 16, "none", **settings))


def test_a_file_of_wikitext_is_read_as_the_rows_of_the_hub(tmp_path: Path) -> None:
    (tmp_path / "wiki.raw").write_text(WIKITEXT, encoding="utf-8")
    file = FileText(str(tmp_path / "wiki.raw"))
    windows = measured_on(file, joined="rows")
    assert torch.cat(windows.rows).tolist() == [ord(letter) + 3 for letter in "\n\n".join(ROWS)]
    assert windows.record["joined"] == "rows"
    hub = measured_on(InlineText(tuple(ROWS)), joined="rows")
    assert hub.record["sha256"] == windows.record["sha256"]
    assert "joined" not in hub.record
    whole = measured_on(file)
    assert torch.cat(whole.rows).tolist() == [ord(letter) + 3 for letter in WIKITEXT]
    assert "joined" not in whole.record


def test_other_texts_are_read_alike_with_and_without_a_preset() -> None:
    for texts in (("prose\nin lines",), (WIKITEXT, WIKITEXT), (" = not a title",)):
        found, other = (measured_on(InlineText(texts), joined=joined) for joined in ("rows", None))
        assert found.record == other.record


def test_the_presets_ask_for_rows(plugins: Plugins) -> None:
    for preset in PRESETS:
        found = construct(PerplexityProtocol, {"text": ["a"], "preset": preset}, plugins.registry.build)
        assert found.joined == "rows"
    with pytest.raises(RecipeError, match="preset standard-2048 has joined: rows, found 'documents'"):
        cut(plugins, preset="standard-2048", joined="documents")


def test_a_report_from_before_the_rows_is_no_report_of_the_same_protocol(tmp_path: Path) -> None:
    (tmp_path / "wiki.raw").write_text(WIKITEXT, encoding="utf-8")
    file = FileText(str(tmp_path / "wiki.raw"))
    before, now = (
        Result(name, 1, Perplexity(value=2.0, protocol=measured_on(file, joined=joined).record), None)
        for name, joined in (("before", None), ("now", "rows"))
    )
    with pytest.raises(RecipeError, match=r"cannot be compared"):
        compare([before, now])


@pytest.mark.slow
@pytest.mark.parametrize(("settings", "value"), [({}, 112.02), ({"joined": "rows"}, 114.48)])
def test_wikitext_2_by_rows_is_what_the_released_code_measures(
    stories: Path, settings: dict[str, Any], value: float
) -> None:
    text = stories.parents[1] / "data" / "wikitext2" / "wiki.test.raw"
    if not text.is_file():
        pytest.skip("WikiText-2 is not on this machine")
    tokenizer, model = (
        auto.from_pretrained(stories) for auto in (transformers.AutoTokenizer, transformers.AutoModelForCausalLM)
    )
    windows = cut_windows(tokenizer, PerplexityProtocol(FileText(str(text)), 128, "first", None, "dropped", **settings))
    assert perplexity(model, windows)["value"] == pytest.approx(value, abs=0.005)
