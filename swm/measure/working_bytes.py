"""How much memory measurements take, whatever the length of the text."""

from __future__ import annotations

from typing import Any

import torch

from swm.interfaces.similarity import SampleMetric, SimilarityMetric
from swm.measure import inspection, perplexity
from swm.measure.protocol import EvaluationRecipe
from swm.measure.tasks import loglikelihood
from swm.memory.pieces import PIECE_BYTES
from swm.model.view import ModelView

# A prefix that is run once is handed to so many rows: the choices of a question.
ROWS_OF_A_PREFIX = 4
# Tensors in float64 of all tokens of a batch, while two hidden states are compared.
WIDE = 6


def tokens_together(asked: EvaluationRecipe) -> tuple[int, str]:
    """The most tokens that are run together, and what a user sets so that they are fewer; nothing where none does."""
    sizes = [(0, "")]
    if asked.perplexity is not None:
        window, most = asked.perplexity.seq_len, asked.perplexity.max_tokens
        batch = window * max(1, perplexity.TOKENS_PER_BATCH // window)
        sizes.append((batch if most is None else min(batch, most), "perplexity with max_tokens"))
    if asked.tasks:
        sizes.append((loglikelihood.TOKENS_PER_BATCH, ""))
    if asked.speed is not None:
        batch = max(asked.speed.batch_sizes) * asked.speed.prompt_tokens
        sizes.append((batch, "speed with batch_sizes x prompt_tokens"))
    sizes += [(measure.tokens_together(), f"measure {measure.name}") for measure in asked.measures or ()]
    return max(sizes)


def tokens_with_keys(asked: EvaluationRecipe) -> int:
    """Of about how many tokens the keys and values are kept at one time."""
    tasks = ROWS_OF_A_PREFIX * loglikelihood.TOKENS_PER_BATCH if asked.tasks else 0
    answers = asked.max_new_tokens if asked.prompts else 0
    speed = asked.speed
    generated = 0 if speed is None else max(speed.batch_sizes) * (speed.prompt_tokens + speed.new_tokens)
    return max(tasks, answers, generated)


def key_numbers(config: Any) -> int:
    """How many numbers the keys and values of a token are, in all layers of a text model of this config.

    0 for a model without attention: what it keeps does not grow with the text.
    """
    heads = _most(config, "num_attention_heads")
    head_dim = _most(config, "head_dim") or (_most(config, "hidden_size") // heads if heads else 0)
    return 2 * _most(config, "num_hidden_layers") * (_most(config, "num_key_value_heads") or heads) * head_dim


def _most(config: Any, name: str) -> int:
    """The number of that name, of a list by layer the largest; 0 where the config has none."""
    value = getattr(config, name, None) or 0
    return max(map(int, value), default=0) if isinstance(value, list | tuple) else int(value)


def inspected_together(samples: int, seq_len: int) -> int:
    """How many tokens an inspection runs together."""
    return min(samples, max(1, inspection.TOKENS_PER_BATCH // seq_len)) * seq_len


def inspection_states(
    model: ModelView, metric: SimilarityMetric, samples: int, seq_len: int, dtype: torch.dtype
) -> int:
    """Bytes of the hidden states that an inspection keeps: of a batch, and of all text for a metric that needs it.

    Args:
        model: The model; it needs no weights.
        metric: What compares two layers.
        samples: How many samples there are.
        seq_len: The tokens of each.
        dtype: The type of the hidden states.
    """
    layers = len(model.layers)
    whole = 0 if isinstance(metric, SampleMetric) else layers * samples * seq_len
    tokens = (layers + 1) * inspected_together(samples, seq_len) + whole
    return tokens * int(model.config.hidden_size) * dtype.itemsize


def inspection_bytes(model: ModelView, metric: SimilarityMetric, samples: int, seq_len: int) -> int:
    """Bytes of what an inspection computes with hidden states: all layers of a piece of samples in float32, and norms.

    Args:
        model: The model; it needs no weights.
        metric: What compares two layers.
        samples: How many samples there are.
        seq_len: The tokens of each.
    """
    width = int(model.config.hidden_size)
    compared = len(model.layers) * max(PIECE_BYTES // 2, 4 * seq_len * width)
    return compared + WIDE * 8 * width * inspected_together(samples, seq_len) + metric.working_bytes()
