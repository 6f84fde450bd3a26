"""Token ids in configs and generation settings, and their new numbers."""

from __future__ import annotations

from typing import Any

import torch
from transformers import GenerationConfig, LlamaConfig

from swm.model.token_ids import new_rows, renumber, special_ids


def nested() -> Any:
    """As a vision-language model has it: ids at the top and in the config of the text model."""
    config: Any = LlamaConfig(bos_token_id=1, eos_token_id=[2, 90], pad_token_id=-1, vocab_size=100)
    config.image_token_id, config.boi_token_index, config.audio_token_id = 95, 96, 300
    config.text_config = LlamaConfig(bos_token_id=1, eos_token_id=7, pad_token_id=None, vocab_size=100)
    config.num_tokens = 5
    return config


def test_the_ids_of_a_config_and_of_those_inside_it_are_found() -> None:
    assert special_ids(nested(), 100) == {1, 2, 90, 95, 96, 7}
    assert special_ids(None, 100) == set()


def test_all_of_them_get_new_numbers_and_what_is_no_id_of_the_vocabulary_stays() -> None:
    config = nested()
    renumber(config, {1: 0, 2: 1, 7: 2, 90: 3, 95: 4, 96: 5}, 100)
    assert (config.bos_token_id, config.eos_token_id, config.pad_token_id) == (0, [1, 3], -1)
    assert (config.image_token_id, config.boi_token_index, config.audio_token_id) == (4, 5, 300)
    assert (config.text_config.bos_token_id, config.text_config.eos_token_id) == (0, 2)
    assert config.num_tokens == 5


def test_what_generation_suppresses_or_asks_for_follows() -> None:
    settings: Any = GenerationConfig(bos_token_id=1, eos_token_id=2)
    settings.suppress_tokens, settings.begin_suppress_tokens = [3, 4], [9]
    settings.bad_words_ids, settings.force_words_ids = [[9]], [[[3, 4], [3, 9]], [[1, 3]]]
    settings.sequence_bias = [[[3], -1.0], [[3, 9], 2.0]]
    renumber(settings, {1: 0, 2: 1, 3: 2, 4: 3}, 10)
    assert (settings.bos_token_id, settings.eos_token_id) == (0, 1)
    assert (settings.suppress_tokens, settings.begin_suppress_tokens) == ([2, 3], [])
    assert (settings.bad_words_ids, settings.force_words_ids) == (None, [[[2, 3]], [[0, 2]]])
    assert settings.sequence_bias == [[[2], -1.0]]
    settings.sequence_bias = {(2,): -1.0, (0, 5): 1.0}
    renumber(settings, {0: 0, 2: 1}, 10)
    assert settings.sequence_bias == {(1,): -1.0}


def test_ids_are_found_among_the_kept_ones() -> None:
    assert new_rows(torch.tensor([[0, 3], [9, 50]]), [0, 3, 9]).tolist() == [[0, 1], [2, -1]]
