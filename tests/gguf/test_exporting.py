"""GGUF files read back by swm's own loader: the same weights, config and token ids; what is refused, and when."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest
import torch
from gguf_models import (
    LLAMA3,
    MODELS,
    TOKENS,
    YARN,
    ascii_tokenizer,
    gguf_model,
    gguf_view,
    save,
    save_view,
    with_specials,
)
from small_tokenizers import byte_fallback, byte_level
from tokenizers import Regex, Tokenizer, pre_tokenizers
from transformers import AutoConfig, AutoTokenizer, PreTrainedTokenizerFast
from typer.testing import CliRunner
from zoo import save_zoo_model

from swm import cli
from swm.builtin.families import BUILTIN_FAMILIES
from swm.errors import CheckpointError, ModelError, RecipeError
from swm.gguf.exporting import GgufFile, export_gguf
from swm.interfaces.progress import Silent
from swm.loading.gguf_file import convert_gguf
from swm.loading.pre_tokenizers import PRE_TOKENIZERS, PreTokenizer, as_json
from swm.loading.pretrained import load_model
from swm.loading.source import ModelSource
from swm.model.surgery import keep_layers
from swm.model.view import ModelView
from swm.model.width_surgery import keep_units
from swm.plugins.loading import Plugins

QWEN = r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
# What transformers reads of GGUF files.
READ = (
    "llama",
    "llama, linear",
    "llama, llama3.1",
    "qwen2",
    "qwen3",
    "gemma2",
    "gemma3",
    "gemma3, linear",
    "phi3",
    "gpt2",
    "starcoder2",
)
# With its own form of rows, a table, biases, shifted norms, turned matrices.
EVERY_SORT = ("llama, llama3.1", "qwen2", "gemma2", "gpt2")
FIELDS = (
    *("hidden_size", "num_hidden_layers", "num_attention_heads", "num_key_value_heads", "intermediate_size"),
    *("vocab_size", "max_position_embeddings", "bos_token_id", "eos_token_id", "sliding_window"),
)
TEXTS = ("The capital of France is Paris.", "def f(x):\n    return x**2  # 1234\n", "<s>a</s> b\t\tc")


# What transformers takes for granted instead of reading it.
GRANTED: dict[str, dict[str, Any]] = {"qwen3": {"head_dim": 128}, "gpt2": {"n_positions": 1024}}


def tokenizer_of(name: str) -> PreTrainedTokenizerFast:
    """One of the kind that transformers takes a file of this architecture to have."""
    if name.startswith("qwen"):
        made = byte_level(TOKENS - 1)
        made.pre_tokenizer = pre_tokenizers.Sequence(
            [
                pre_tokenizers.Split(Regex(QWEN), "isolated"),
                pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
            ]
        )
        return with_specials(made)
    return with_specials(byte_fallback(TOKENS)) if name.startswith("gemma") else ascii_tokenizer()


def said(rope: dict[str, Any]) -> dict[str, Any]:
    """The values of rotary parameters, without those that are what is meant where nothing is said."""
    return {
        key: said(value) if isinstance(value, dict) else value
        for key, value in rope.items()
        if (key, value) not in (("partial_rotary_factor", 1.0), ("original_max_position_embeddings", 128))
    }


def written(folder: Path, plugins: Plugins, **options: Any) -> GgufFile:
    return export_gguf(str(folder), f"{folder}.gguf", plugins.registry, **options)


def read(file: GgufFile) -> gguf.GGUFReader:
    return gguf.GGUFReader(file.path)


@pytest.mark.parametrize(
    "name", [name if name in EVERY_SORT else pytest.param(name, marks=pytest.mark.slow) for name in READ]
)
def test_swm_reads_back_what_it_wrote(name: str, tmp_path: Path, plugins: Plugins) -> None:
    tokenizer = tokenizer_of(name)
    model = gguf_model(name, vocab_size=len(tokenizer), **GRANTED.get(name, {}))
    file = written(save(model, tmp_path / "model", tokenizer), plugins, number_type="f32")
    assert file.architecture == MODELS[name][2]
    folder = convert_gguf(file.path, tmp_path / "cache", BUILTIN_FAMILIES, Silent())
    again: Any = load_model(ModelSource("again", folder))
    state = again.state_dict()
    for key, value in model.state_dict().items():
        # One more and one less is not always the same number.
        exact = not (key.endswith("norm.weight") and name.startswith("gemma"))
        torch.testing.assert_close(state[key], value, rtol=0, atol=0 if exact else 1e-6, msg=key)
    config = AutoConfig.from_pretrained(folder)
    for field in FIELDS:
        assert getattr(config, field, None) == getattr(model.config, field, None), field
    if getattr(model.config, "rope_parameters", None):
        assert said(config.rope_parameters) == said(model.config.rope_parameters)
    read_again = AutoTokenizer.from_pretrained(folder)
    for text in TEXTS:
        assert read_again(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("row", PRE_TOKENIZERS, ids=lambda row: row.name)
def test_a_tokenizer_that_is_read_back_splits_words_as_before(
    row: PreTokenizer, tmp_path: Path, plugins: Plugins
) -> None:
    data = json.loads(byte_level(TOKENS - 1).to_str())
    data["pre_tokenizer"] = as_json(row.steps)
    data["model"]["ignore_merges"] = row.ignore_merges
    tokenizer = with_specials(Tokenizer.from_str(json.dumps(data)))
    model = gguf_model("llama", vocab_size=len(tokenizer))
    file = written(save(model, tmp_path / "model", tokenizer), plugins)
    folder = convert_gguf(file.path, tmp_path / "cache", BUILTIN_FAMILIES, Silent())
    read_again = AutoTokenizer.from_pretrained(folder)
    for text in (*TEXTS, "Room 1234567 at 12:30, 3.14 \u00bd\n\n  HELLO World's it'S //x\r\n"):
        assert read_again(text)["input_ids"] == tokenizer(text)["input_ids"]


@pytest.mark.parametrize("name", [name for name in MODELS if "," not in name])
def test_every_model_becomes_its_architecture(name: str, tmp_path: Path, plugins: Plugins) -> None:
    file = written(save(gguf_model(name), tmp_path / "model"), plugins)
    assert (file.architecture, file.number_type) == (MODELS[name][2], "f32")


def test_every_row_has_a_model() -> None:
    rows = {(row.name, kind) for family in BUILTIN_FAMILIES for row in family.gguf for kind in row.model_types}
    shown = {(architecture, kind) for kind, _, architecture in MODELS.values()}
    assert {row for row in rows - shown if row[0] != "deci"} == set()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return save(gguf_model("llama", tie_word_embeddings=True), tmp_path / "model")


def test_types_of_numbers(folder: Path, plugins: Plugins) -> None:
    original = gguf_model("llama", tie_word_embeddings=True).state_dict()["model.layers.0.mlp.up_proj.weight"].numpy()
    sizes = {}
    for kind, error in {"f32": 0.0, "f16": 1e-3, "bf16": 4e-3, "q8_0": 1e-2}.items():
        file = written(folder, plugins, number_type=kind, overwrite=True)
        tensors = {tensor.name: tensor for tensor in read(file).tensors}
        up = tensors["blk.0.ffn_up.weight"]
        assert up.tensor_type.name == kind.upper()
        assert {tensors[name].tensor_type.name for name in ("output_norm.weight", "blk.1.attn_norm.weight")} == {"F32"}
        assert np.abs(gguf.dequantize(up.data, up.tensor_type) - original).max() <= error
        sizes[kind] = file.bytes
        assert "output.weight" not in tensors
    assert sizes["q8_0"] < sizes["f16"] == sizes["bf16"] < sizes["f32"]


def test_rows_that_no_block_divides_are_half_precision(tmp_path: Path, plugins: Plugins) -> None:
    view = gguf_view("llama")
    keep_units(view, 0, "mlp", list(range(37)))
    file = written(save_view(view, "custom", tmp_path / "model"), plugins, number_type="q8_0")
    kinds = {tensor.name: tensor.tensor_type.name for tensor in read(file).tensors}
    assert (kinds["blk.0.ffn_down.weight"], kinds["blk.1.ffn_down.weight"]) == ("F16", "Q8_0")


def test_numbers_too_large_for_half_precision_are_refused(tmp_path: Path, plugins: Plugins) -> None:
    model = gguf_model("llama")
    with torch.no_grad():
        model.get_input_embeddings().weight[7, 3] = 1e6
    folder = save(model, tmp_path / "model")
    with pytest.raises(ModelError, match=r"token_embd\.weight holds numbers that float16 cannot; .* bf16"):
        written(folder, plugins, number_type="f16")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model"]


def test_the_same_folder_gives_the_same_bytes_and_tells_no_path(folder: Path, plugins: Plugins) -> None:
    first = written(folder, plugins).path.read_bytes()
    assert written(folder, plugins, overwrite=True).path.read_bytes() == first
    assert str(folder).encode() not in first
    assert folder.parent.name.encode() not in first
    assert "general.name" not in gguf.GGUFReader(f"{folder}.gguf").fields


def test_the_card_and_the_report_say_what_the_model_is(folder: Path, plugins: Plugins) -> None:
    (folder / "README.md").write_text("---\nlicense: apache-2.0\nbase_model: owner/Name-1B\ntags: [pruned]\n---\n# x\n")
    (folder / "report.json").write_text(json.dumps({"model": {"source": "/home/me/Name-1B"}}))
    fields = {name: field.contents() for name, field in read(written(folder, plugins)).fields.items()}
    assert fields["general.name"] == "Name-1B-pruned"
    assert fields["general.license"] == "apache-2.0"
    assert fields["general.base_model.0.repo_url"] == "https://huggingface.co/owner/Name-1B"
    assert b"/home/me" not in Path(f"{folder}.gguf").read_bytes()


def test_a_file_that_exists_stays(folder: Path, plugins: Plugins) -> None:
    Path(f"{folder}.gguf").write_text("mine")
    with pytest.raises(CheckpointError, match=r"exists; choose another or pass --overwrite"):
        written(folder, plugins)
    assert Path(f"{folder}.gguf").read_text() == "mine"
    assert written(folder, plugins, overwrite=True).layers == 4


def test_a_file_inside_the_model_is_refused(folder: Path, plugins: Plugins) -> None:
    with pytest.raises(CheckpointError, match="lies inside the model that is read"):
        export_gguf(str(folder), folder / "x.gguf", plugins.registry)


def test_the_file_that_is_read_is_not_replaced(folder: Path, plugins: Plugins) -> None:
    file = written(folder, plugins).path
    before = file.read_bytes()
    with pytest.raises(CheckpointError, match="is the model that is read; choose another"):
        export_gguf(str(file), file, plugins.registry, overwrite=True)
    assert file.read_bytes() == before


def test_an_unknown_type_is_refused_by_name(folder: Path, plugins: Plugins) -> None:
    with pytest.raises(RecipeError, match=r"unknown type 'q4_0'; allowed: auto, bf16, f16, f32, q8_0"):
        written(folder, plugins, number_type="q4_0")


def uneven(view: ModelView) -> None:
    keep_units(view, 0, "mlp", list(range(40)))


def fewer_layers(view: ModelView) -> None:
    keep_layers(view, [0, 2, 3])


def biased(view: ModelView) -> None:
    keep_units(view, 1, "mlp", list(range(40)), {"mlp.down.bias": torch.ones(64)})


@pytest.mark.parametrize(
    ("name", "change", "layout", "expected"),
    [
        (
            "qwen3",
            uneven,
            "custom",
            r"'qwen3': MLP widths differ .*40 to 128.* layout: padded .*uniform: true",
        ),
        ("gemma2", fewer_layers, "native", r"reads a window in all layers but one of 2, .* removing 2 layers in a row"),
        (
            "smollm3",
            fewer_layers,
            "native",
            r"one of 4 layers, .*is another one.* no_rope_layers says \[1, 1, 0\]",
        ),
    ],
)
def test_what_an_architecture_cannot_hold(name, change, layout, expected, tmp_path: Path, plugins: Plugins) -> None:
    view = gguf_view(name)
    change(view)
    with pytest.raises(ModelError, match=expected):
        written(save_view(view, layout, tmp_path / "model"), plugins)


@pytest.mark.parametrize(
    ("name", "changes", "expected"),
    [
        ("llama", {"hidden_act": "gelu"}, r"'llama': its MLP computes silu, this model's gelu"),
        ("mistral", {"sliding_window": 4}, r"'llama': it has no layers with a sliding window"),
        (
            "gemma3",
            {"query_pre_attn_scalar": 8},
            r"channels of a head, 16, .*query_pre_attn_scalar: 8",
        ),
        (
            "qwen3",
            {"attention_bias": True},
            r"no place for the biases of attn_k, attn_output, attn_q, attn_v",
        ),
        ("cohere", {"use_qk_norm": True}, r"'command-r'"),
        (
            "llama, yarn",
            {"rope_parameters": {**YARN["rope_parameters"], "beta_fast": 9.0}},
            r"beta_fast .* 32.* 9",
        ),
        ("qwen3", LLAMA3, r"'qwen3': it has no rotary tables of rope_type 'llama3'; it has default, linear, yarn"),
    ],
)
def test_configs_that_llama_cpp_would_read_otherwise(name, changes, expected, tmp_path, plugins: Plugins) -> None:
    with pytest.raises(ModelError, match=expected):
        written(save(gguf_model(name, **changes), tmp_path / "model"), plugins)


def test_a_model_without_an_architecture_is_refused_with_the_known_ones(tmp_path: Path, plugins: Plugins) -> None:
    folder = save_zoo_model(tmp_path / "model", "bloom")
    with pytest.raises(ModelError, match=r"model_type 'bloom'; known: arcee, cohere, .* field gguf of its ModelFamily"):
        written(folder, plugins)


def test_modules_in_place_of_projections_are_refused_with_the_way(tmp_path: Path, plugins: Plugins) -> None:
    folder = save_view(gguf_view("llama"), "custom", tmp_path / "model")
    config = json.loads((folder / "config.json").read_text())
    layers = [{"low_rank": {"mlp.up_proj": 4}}] * 4
    (folder / "config.json").write_text(json.dumps({**config, "model_type": "swm_llama", "swm_layers": layers}))
    with pytest.raises(ModelError, match=r"modules in place of projections \(low_rank\).* layout: merged"):
        written(folder, plugins)


def test_no_code_of_the_folder_runs(tmp_path: Path, plugins: Plugins) -> None:
    view = gguf_view("llama")
    uneven(view)
    folder = save_view(view, "custom", tmp_path / "model")
    (folder / "modeling_swm.py").write_text("raise SystemExit(3)")
    file = written(folder, plugins)
    assert read(file).fields["deci.feed_forward_length"].contents() == [40, 128, 128, 128]


def test_the_command(folder: Path) -> None:
    def run(*options: str) -> Any:
        return CliRunner().invoke(cli.app, ["export", str(folder), "--to", "gguf", *options])

    done = run("--output", "x.gguf", "--type", "f16")
    assert (done.exit_code, Path("x.gguf").is_file()) == (0, True)
    assert "architecture llama, 4 layers" in done.stdout
    assert json.loads(run("--output", "y.gguf", "--json").stdout)["number_type"] == "f32"
    assert isinstance(run("--output", "x.gguf").exception, CheckpointError)
