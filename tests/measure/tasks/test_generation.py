"""Many prompts at a time: the text of each is the one that it has alone."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
import torch
from zoo import zoo_model

from swm.errors import ModelError
from swm.interfaces.progress import Silent
from swm.measure.tasks.generation import Generation, Prompt, common_prefix
from swm.measure.tasks.prefix_groups import Tokens
from swm.measure.tasks.quiet_harness import quiet_harness

MOST = 8
DRAW = random.Random(1)


def tokens(length: int) -> Tokens:
    return tuple(DRAW.randrange(3, 128) for _ in range(length))


STEM = tokens(40)
RAGGED = [tokens(length) for length in (5, 9, 9, 20, 33)]
STEMMED = [(*STEM, *tokens(length)) for length in (3, 7, 7, 19)]
ALIKE = [tokens(12) for _ in range(3)]


class Letters:
    """A tokenizer of one letter a token."""

    def decode(self, made: Sequence[int]) -> str:
        return "".join(map(chr, made))


class Watch:
    """How many rows and tokens each pass of a model has."""

    def __init__(self, model: Any) -> None:
        self.shapes: list[tuple[int, ...]] = []
        self._handle = model.register_forward_pre_hook(self._note, with_kwargs=True)

    def _note(self, module: Any, args: Any, given: dict[str, Any]) -> None:
        self.shapes.append(tuple(given["input_ids"].shape))


def together(model: Any, rows: Sequence[Tokens], **settings: Any) -> list[list[int]]:
    prompts = [Prompt(row, MOST, ()) for row in rows]
    with Silent().task("") as task:
        return Generation(model, Letters(), **settings).continue_all(prompts, task)


def alone(model: Any, rows: Sequence[Tokens]) -> list[list[int]]:
    made = []
    for row in rows:
        ids = torch.tensor([row])
        settings = {"attention_mask": torch.ones_like(ids), "max_new_tokens": MOST, "do_sample": False}
        made.append(model.generate(input_ids=ids, pad_token_id=0, **settings)[0, len(row) :].tolist())
    return made


@pytest.mark.parametrize("name", ["llama", "gemma3_text", "mpt", "jamba", "mamba"])
@pytest.mark.parametrize("rows", [RAGGED, STEMMED, ALIKE], ids=["ragged", "stemmed", "alike"])
def test_tokens_are_those_that_each_prompt_has_alone(name: str, rows: list[Tokens]) -> None:
    model = zoo_model(name).eval()
    assert together(model, rows) == alone(model, rows)


def test_small_batches_and_prompts_read_in_pieces_change_nothing() -> None:
    model = zoo_model("llama").eval()
    expected = alone(model, [*RAGGED, *STEMMED])
    assert together(model, [*RAGGED, *STEMMED], batch_tokens=32) == expected


def test_a_common_prefix_is_read_once_and_padding_where_it_is_right() -> None:
    model = zoo_model("llama").eval()
    watch = Watch(model)
    together(model, STEMMED)
    read = [shape for shape in watch.shapes if shape[1] > 1]
    assert (1, len(STEM)) in read
    assert read[-1] == (4, 19)
    assert sum(shape == (1, len(STEM)) for shape in read) == 1


def test_a_model_that_reads_padding_gets_rows_of_one_length() -> None:
    model = zoo_model("jamba").eval()
    watch = Watch(model)
    together(model, RAGGED)
    batches = [shape for shape in watch.shapes if shape[1] > 1]
    assert batches[-4:] == [(1, 33), (1, 20), (2, 9), (1, 5)]


@pytest.mark.parametrize("name", ["bamba", "minimax", "recurrent_gemma"])
def test_a_model_that_does_not_go_on_from_what_it_keeps_is_not_run_so(name: str) -> None:
    generation = Generation(zoo_model(name).eval(), Letters())
    assert not generation.is_possible([Prompt(RAGGED[0], MOST, ())])


def test_a_finished_row_leaves_the_batch() -> None:
    model = zoo_model("llama").eval()
    texts = alone(model, ALIKE)
    stop = chr(texts[0][2])
    first = [text.index(ord(stop)) + 1 if ord(stop) in text else MOST for text in texts]
    watch = Watch(model)
    prompts = [Prompt(row, MOST, (stop,)) for row in ALIKE]
    with Silent().task("") as task:
        made = Generation(model, Letters()).continue_all(prompts, task)
    assert made == [text[:length] for text, length in zip(texts, first, strict=True)]
    rows = [shape[0] for shape in watch.shapes if shape[1] == 1]
    assert rows == [sum(length > step for length in first) for step in range(1, max(first))]


def test_a_prefix_must_be_worth_a_pass_and_leave_a_token_to_every_row() -> None:
    assert common_prefix(STEMMED) == 40
    assert common_prefix([*STEMMED, STEM]) == 39
    assert common_prefix(RAGGED) == 0
    assert common_prefix([row[:12] for row in STEMMED]) == 0
    assert common_prefix(STEMMED[:1]) == 0


def test_scores_that_are_no_numbers_are_told() -> None:
    model = zoo_model("llama").eval()
    model.get_output_embeddings().weight.data.fill_(torch.nan)
    with pytest.raises(ModelError, match="not a number"):
        together(model, ALIKE)


def requests(settings: dict[str, Any]) -> list[Any]:
    with quiet_harness():
        from lm_eval.api.instance import Instance

        contexts = ["Once upon a time", "Lily saw a big", "", "Tom had a red ball. He", "One day, a boy named Ben"]
        return [Instance("generate_until", {}, (text, settings), i) for i, text in enumerate(contexts)]  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "own",
    [{}, {"repetition_penalty": 1.3}, {"do_sample": True, "temperature": 0.7}],
    ids=["plain", "penalty", "sampling by default"],
)
def test_text_is_that_of_lm_eval_whatever_the_models_own_settings(
    own: dict[str, Any], model: Any, tokenizer: Any, hflm: Any, counter: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    from swm.measure.tasks.lm_eval_model import PrefixSharingLM

    for name, value in own.items():
        monkeypatch.setattr(model.generation_config, name, value)
    asked = requests({"until": [".", "\n\n"], "max_gen_toks": 12, "do_sample": False})
    with quiet_harness():
        stock = hflm(model, tokenizer, batch_size=1)
        expected = [stock.generate_until([each], disable_tqdm=True)[0] for each in asked if each.args[0]]
        made = PrefixSharingLM(model, tokenizer, progress=counter).generate_until(asked)
    assert [text for text, each in zip(made, asked, strict=True) if each.args[0]] == expected
    assert (counter.totals, counter.done) == ([len(asked)], len(asked))


def test_answers_as_long_as_the_model_reads_are_refused(model: Any, tokenizer: Any) -> None:
    from swm.measure.tasks.lm_eval_model import PrefixSharingLM

    scorer = PrefixSharingLM(model, tokenizer)
    with pytest.raises(ModelError, match=r"answers of up to 9999 tokens; the model takes \d+ with the question"):
        scorer.generate_until(requests({"max_gen_toks": 9999}))
