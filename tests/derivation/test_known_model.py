"""Which row a model has: a plugin's before swm's own before a derived one, each tested, and kept in the cache."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoConfig
from zoo import zoo_model

from swm.derivation import known_model as place
from swm.derivation.known_model import AUTOMATIC, known_model
from swm.errors import ClashError, FamilyError
from swm.model.families import ModelFamily
from swm.plugins.registry import Registry

SIZES = {"vocab_size": 96, "hidden_size": 32, "intermediate_size": 64, "num_attention_heads": 4}


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    return tmp_path / "families"


@pytest.fixture
def biogpt() -> Any:
    return AutoConfig.for_model("biogpt", **SIZES, num_hidden_layers=4, max_position_embeddings=64)


@pytest.fixture
def tested(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The names of the rows that were tested."""
    names: list[str] = []
    prove: Callable[..., Any] = place.prove_row

    def watched(model: Any, row: ModelFamily) -> Any:
        names.append(row.name)
        return prove(model, row)

    monkeypatch.setattr(place, "prove_row", watched)
    return names


def llama_row(plugins: Any) -> ModelFamily:
    return next(row for row in plugins.registry.families if row.name == "llama")


def test_a_model_without_row_gets_one_that_is_kept(biogpt: Any, plugins: Any, cache: Path, tested: list[str]) -> None:
    state = torch.get_rng_state()
    first = known_model(biogpt, plugins.registry)
    assert torch.equal(torch.get_rng_state(), state)
    assert first.origin == AUTOMATIC
    assert first.family.layers == "biogpt.layers"
    assert first.family.projections["mlp.down"] == "fc2"
    assert first.family.own_bias == ("attention", "mlp")
    (note,) = first.notes()
    assert "no family row for model_type 'biogpt': an automatic one was derived" in note
    assert "proven: attention block, fewer layers, layers, mlp, mlp block, mlp config; not heads: " in note
    again = known_model(biogpt, plugins.registry)
    assert (again.family, again.proof) == (first.family, first.proof)
    assert tested == ["automatic biogpt"]
    (file,) = cache.iterdir()
    file.write_text(file.read_text()[:-20])
    assert known_model(biogpt, plugins.registry).family == first.family
    assert len(tested) == 2
    assert json.loads(file.read_text())["family"]["name"] == "automatic biogpt"


def test_a_failure_is_not_kept(
    biogpt: Any, plugins: Any, cache: Path, tested: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def without_memory(model: Any) -> Any:
        raise MemoryError("no memory")

    with monkeypatch.context() as patched:
        patched.setattr(place, "derive_row", without_memory)
        with pytest.raises(FamilyError, match="MemoryError: no memory"):
            known_model(biogpt, plugins.registry)
    assert not cache.exists() or not list(cache.iterdir())
    assert known_model(biogpt, plugins.registry).origin == AUTOMATIC


def test_another_config_is_tested_by_itself(tiny: Any, plugins: Any, tested: list[str]) -> None:
    known_model(tiny("llama").config, plugins.registry)
    known_model(tiny("llama", num_key_value_heads=4).config, plugins.registry)
    known_model(tiny("llama").config, plugins.registry)
    assert tested == ["llama", "llama"]


def test_a_row_of_a_plugin_goes_before_the_own_one_and_two_plugins_clash(tiny: Any, plugins: Any) -> None:
    registry = Registry()
    registry.register(llama_row(plugins), "swm")
    mine = replace(llama_row(plugins), name="mine", model_types=("llama",), projections={})
    registry.register(mine, "mine.py")
    known = known_model(tiny("llama").config, registry)
    assert (known.family.name, known.origin) == ("mine", "mine.py")
    assert known_model(tiny("mistral").config, registry).family.name == "llama"
    assert registry.replaced_rows() == {"llama": "mine.py"}
    with pytest.raises(ClashError, match=r"model_type llama is registered by mine\.py and by other\.py"):
        registry.register(replace(mine, name="other"), "other.py")


def test_a_row_that_is_wrong_about_the_layers_is_refused(tiny: Any, plugins: Any) -> None:
    registry = Registry()
    registry.register(replace(llama_row(plugins), tail=()), "mine.py")
    with pytest.raises(FamilyError, match=r"row 'llama' of mine\.py is wrong about model_type 'llama': its layers run"):
        known_model(tiny("llama").config, registry)


@pytest.mark.parametrize("known", [False, True], ids=["automatic", "a row"])
def test_layers_that_return_lists_are_told_with_and_without_a_row(known: bool) -> None:
    config = AutoConfig.for_model("openai-gpt", vocab_size=96, n_embd=32, n_layer=2, n_head=4, n_positions=64)
    registry = Registry()
    if known:
        registry.register(ModelFamily("gpt1", ("openai-gpt",), "transformer.h"), "mine.py")
    with pytest.raises(FamilyError, match=r"'openai-gpt'.*: its layers do not return hidden states"):
        known_model(config, registry)


def test_a_part_that_a_row_is_wrong_about_is_refused_when_it_is_asked_for(tiny: Any, plugins: Any) -> None:
    row, registry = llama_row(plugins), Registry()
    paths = {**row.projections, "mlp.down": row.projections["mlp.up"], "mlp.up": row.projections["mlp.down"]}
    registry.register(replace(row, projections=paths), "mine.py")
    known = known_model(tiny("llama").config, registry)
    assert known.notes()[0].startswith("family row 'llama' did not pass its test for mlp, which is not cut:")
    layer = known.view.layer(0)
    assert (layer.units("mlp"), layer.units("attention")) == (0, 2)
    layer.check_part("attention")
    with pytest.raises(FamilyError, match="row 'llama' did not pass its test for mlp"):
        layer.check_part("mlp")


@pytest.mark.parametrize(
    ("model_type", "changes", "why"),
    [
        ("t5", {}, "it is an encoder-decoder model"),
        ("bert", {"intermediate_size": 64}, "it is an encoder: its scores of a token depend on later tokens"),
        ("biogpt", {"architectures": ["BioGptForTokenClassification"]}, "it is a BioGptForTokenClassification"),
        ("vit", {}, "no model can be made from the config"),
    ],
)
def test_what_is_no_decoder_gets_no_row(model_type: str, changes: dict[str, Any], why: str, plugins: Any) -> None:
    config = AutoConfig.for_model(model_type, **changes)
    with pytest.raises(FamilyError, match=f"row for model_type '{model_type}', and none can be derived: {why}"):
        known_model(config, plugins.registry)


@pytest.mark.parametrize("name", ["zamba2", "gemma3n_text"])
def test_layers_that_share_tensors_by_their_numbers_are_refused(name: str, plugins: Any) -> None:
    with pytest.raises(FamilyError, match=f"model_type '{name}' cannot be taken: its layers share "):
        known_model(zoo_model(name).config, plugins.registry)


def test_a_width_that_is_also_that_of_experts_is_cut_without_the_config(plugins: Any) -> None:
    registry = Registry()
    known = known_model(zoo_model("hunyuan_v1_moe").config, registry)
    assert known.origin == AUTOMATIC
    assert known.family.only_custom("mlp")
    assert "intermediate_size is not the MLPs' width alone" in known.remarks
    assert known.view.layer(0).units("mlp") == 128
