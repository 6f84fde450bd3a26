"""GGUF files: what lacks, what is left over and what ends early is told, and nothing is made up."""

from __future__ import annotations

import random
from collections.abc import Iterable
from contextlib import suppress
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gguf
import numpy as np
import pytest
import torch

from swm.builtin.families import BUILTIN_FAMILIES
from swm.errors import ModelError
from swm.interfaces.progress import Silent
from swm.loading.gguf_file import convert_gguf, read_header
from swm.loading.gguf_words import words_of
from swm.loading.pretrained import load_model
from swm.loading.source import ModelSource
from swm.testing import tiny_model
from swm.testing.tiny import TOKENS


def write(
    file: Path,
    drop: Iterable[str] = (),
    extra: Iterable[str] = (),
    layers: int | None = None,
    rope: Any = None,
    theta: float = 1e4,
) -> Path:
    """A tiny Llama as GGUF, without some tensors, or with others besides, or with another number of layers told."""
    model = tiny_model("llama")
    config = model.config
    writer = gguf.GGUFWriter(file, "llama")
    writer.add_context_length(config.max_position_embeddings)
    writer.add_embedding_length(config.hidden_size)
    writer.add_block_count(layers or config.num_hidden_layers)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_freq_base(theta)
    writer.add_rope_dimension_count(config.head_dim)
    writer.add_vocab_size(config.vocab_size)
    writer.add_tokenizer_model("llama")
    writer.add_token_list([*TOKENS, *(f"x{i}" for i in range(config.vocab_size - len(TOKENS)))])
    writer.add_token_scores([0.0] * config.vocab_size)
    writer.add_token_types([1] * config.vocab_size)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    names = gguf.get_tensor_name_map(gguf.MODEL_ARCH.LLAMA, config.num_hidden_layers)
    tensors = {names.get_name(key, (".weight",)): value.numpy() for key, value in model.state_dict().items()}
    tensors.update({name: np.zeros((4, 4), dtype=np.float32) for name in extra})
    if isinstance(rope, dict):
        writer.add_rope_scaling_type(gguf.RopeScalingType(rope["rope_type"]))
        writer.add_rope_scaling_factor(rope["factor"])
    elif rope is not None:
        tensors["rope_freqs.weight"] = np.array(rope, dtype=np.float32)
    for name, value in tensors.items():
        if name not in drop:
            writer.add_tensor(str(name), value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return file


def refusal(file: Path, cache: Path) -> str:
    with pytest.raises(ModelError) as raised:
        convert_gguf(file, cache, BUILTIN_FAMILIES, Silent())
    assert not [made for made in cache.rglob("*") if made.is_file()], "something was left behind"
    return raised.value.message


def test_a_whole_file_is_converted_once_and_loads(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path / "whole.gguf", rope=[1.0] * 4)
    folder = convert_gguf(file, tmp_path / "cache", BUILTIN_FAMILIES, Silent())
    model: Any = load_model(ModelSource("whole", folder), device="cpu")
    assert model.model.norm.weight.equal(tiny_model("llama").model.norm.weight)
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("again"))
    assert convert_gguf(file, tmp_path / "cache", BUILTIN_FAMILIES, Silent()) == folder


def test_tensors_that_lack_are_not_made_up(tmp_path: Path) -> None:
    file = write(tmp_path / "lacks.gguf", drop=["blk.2.ffn_down.weight", "blk.3.attn_norm.weight"])
    said = refusal(file, tmp_path / "cache")
    assert "lacks weights that its config says: model.layers.2.mlp.down_proj.weight, model.layers.3." in said


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"extra": ["score.weight"]}, "score.weight"),
        ({"layers": 5}, "blk.5.attn_k.weight, blk.5.attn_norm.weight"),
    ],
    ids=["a head", "a layer"],
)
def test_tensors_that_are_left_over_are_not_dropped(tmp_path: Path, options: dict[str, Any], names: str) -> None:
    said = refusal(write(tmp_path / "more.gguf", **options), tmp_path / "cache")
    assert f"has no place for: {names}" in said


def test_a_file_that_ends_early_is_told_before_it_is_converted(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = write(tmp_path / "whole.gguf").read_bytes()
    monkeypatch.setattr("transformers.AutoModelForCausalLM.from_pretrained", lambda *a, **k: pytest.fail("converted"))
    bad = tmp_path / "bad.gguf"
    for end in (0, 3, 4, 8, 16, 23, 24, 30, 200, 1000, 3000, len(whole) // 2, len(whole) - 1):
        bad.write_bytes(whole[:end])
        assert "bad.gguf cannot be read" in refusal(bad, tmp_path / "cache")


def test_a_header_with_wrong_numbers_neither_fills_the_memory_nor_ends_in_a_traceback(tmp_path: Path) -> None:
    whole = write(tmp_path / "whole.gguf").read_bytes()
    draw, bad = random.Random(0), tmp_path / "bad.gguf"
    for start in (8, 16, 24, *(draw.randrange(8, 4000) for _ in range(60))):
        damaged = bytearray(whole)
        damaged[start : start + 8] = draw.choice([b"\xff" * 8, bytes(8), draw.randbytes(8)])
        bad.write_bytes(damaged)
        # What is damaged may also be a name or a number that nobody can call wrong.
        with suppress(ModelError):
            read_header(bad)


def test_a_conversion_is_kept_in_float32(tmp_path: Path) -> None:
    folder = convert_gguf(write(tmp_path / "whole.gguf"), tmp_path / "cache", BUILTIN_FAMILIES, Silent())
    assert load_model(ModelSource("whole", folder), device="cpu").dtype is torch.float32


def rope_of(file: Path, cache: Path) -> Any:
    model: Any = load_model(ModelSource(file.stem, convert_gguf(file, cache, BUILTIN_FAMILIES, Silent())), device="cpu")
    return model.config.rope_parameters


def test_the_table_of_llama_3_is_not_forgotten(tmp_path: Path) -> None:
    # Wavelengths of 6, 167, 4443 and 118142 tokens: Llama 3 leaves the first two, and divides the last by its factor.
    smooth = (8192 / 4442.9 - 1) / 3
    file = write(tmp_path / "llama3.gguf", theta=500000.0, rope=[1.0, 1.0, 1 / ((1 - smooth) / 8 + smooth), 8.0])
    found = rope_of(file, tmp_path / "cache")
    assert (found["rope_type"], found["rope_theta"], found["factor"]) == ("llama3", 500000.0, 8.0)


def test_a_scaling_in_the_header_is_not_forgotten(tmp_path: Path) -> None:
    file = write(tmp_path / "linear.gguf", rope={"rope_type": "linear", "factor": 4.0})
    found = rope_of(file, tmp_path / "cache")
    assert found == {"rope_type": "linear", "rope_theta": 10000.0, "factor": 4.0}


@pytest.mark.parametrize(
    ("rope", "says"),
    [([1.0, 1.0, 3.0, 8.0], "not those of Llama 3"), ({"rope_type": "longrope", "factor": 4.0}, "by 'longrope'")],
    ids=["a table", "a type"],
)
def test_an_unknown_scaling_is_refused(tmp_path: Path, rope: Any, says: str) -> None:
    assert says in refusal(write(tmp_path / "other.gguf", rope=rope), tmp_path / "cache")


def test_words_that_swm_cannot_split_are_refused() -> None:
    fields = {
        key: SimpleNamespace(parts=[np.frombuffer(text.encode(), dtype=np.uint8)])
        for key, text in {"tokenizer.ggml.model": "gpt2", "tokenizer.ggml.pre": "smolm"}.items()
    }
    with pytest.raises(ModelError, match=r"rules 'smolm' \(tokenizer.ggml.pre\).*known: gpt-2, smollm"):
        words_of(SimpleNamespace(fields=fields), "mine.gguf")
