"""What a number depends on: edited code, of a plugin and of what lies beside it, and the model's config."""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import PreTrainedModel

from swm.cache.observations import ObservationCache
from swm.interfaces.progress import Silent
from swm.model.view import ModelView
from swm.plugins.loading import Plugins, load_plugins
from swm.provenance import dependencies as provenance
from swm.provenance.dependencies import code_by_module, code_of, code_of_classes, machine, tokenizer_hash
from swm.provenance.source_code import code_hash, file_hash, package_hash
from swm.recipe.building import build_recipe
from swm.run.original import Original
from swm.run.pipeline import CompressionPipeline
from swm.testing.tiny import tiny_tokenizer

PLUGIN = """
import dataclasses
import sys
from pathlib import Path
from typing import ClassVar, final

import torch

import swm

sys.path.insert(0, str(Path(__file__).parent))


@final
@dataclasses.dataclass(frozen=True)
class Sign(swm.WidthPruner):
    name: ClassVar[str] = "sign"

    def score(self, group):
        from beside_sign import FACTOR
        return {score}


@swm.hookimpl
def swm_register(register):
    register(Sign)
"""


@dataclass
class Holder:
    """What a plugin may put around strategies."""

    one: Any
    other: Any


UP, DOWN = "FACTOR * torch.arange(group.units).float()", "-FACTOR * torch.arange(group.units).float()"


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Path]:
    """A folder with a plugin and a module beside it that it imports when it is used."""
    (tmp_path / "plugin.py").write_text(PLUGIN.replace("{score}", UP))
    (tmp_path / "beside_sign.py").write_text("FACTOR = +1\n")
    before = list(sys.path)
    yield tmp_path
    sys.path[:] = before
    sys.modules.pop("beside_sign", None)


def kept(model: Path, folder: Path, cache: ObservationCache | None) -> list[Any]:
    """The steps of a plan by the plugin, as a process would find them that begins now."""
    sys.modules.pop("beside_sign", None)
    plugins = load_plugins([folder / "plugin.py"])
    data = {"model": str(model), "calibration": {"text": "python-docs", "samples": 2, "seq_len": 16}}
    stages = [{"width": {"pruner": "sign", "units": ["mlp"], "target": {"ratio": 0.1}}}]
    recipe = build_recipe({**data, "stages": stages}, plugins)
    plan = CompressionPipeline(recipe, plugins, observations=cache).plan()
    return [step.to_plan() for step in plan.stages[0].steps]


def test_an_edited_score_gives_the_new_channels(stories: Path, folder: Path) -> None:
    cache = ObservationCache(folder / "cache")
    up = kept(stories, folder, cache)
    assert kept(stories, folder, cache) == up == kept(stories, folder, None)
    (folder / "plugin.py").write_text(PLUGIN.replace("{score}", DOWN))
    down = kept(stories, folder, cache)
    assert down != up
    assert down == kept(stories, folder, None) == kept(stories, folder, cache)


def test_an_edit_of_a_module_beside_the_plugin_gives_the_new_channels(stories: Path, folder: Path) -> None:
    cache = ObservationCache(folder / "cache")
    up = kept(stories, folder, cache)
    known = len(cache.entries())
    (folder / "unrelated.py").write_text("FACTOR = 7\n")
    assert kept(stories, folder, cache) == up
    assert len(cache.entries()) == known
    (folder / "beside_sign.py").write_text("FACTOR = -1  # another length, so that Python sees the edit\n")
    down = kept(stories, folder, cache)
    assert down != up
    assert down == kept(stories, folder, None)


def test_what_runs_is_what_was_loaded_and_not_what_was_edited_later(folder: Path) -> None:
    first = load_plugins([folder / "plugin.py"]).registry.strategy("width", "sign")
    before = code_of_classes([first])
    (folder / "plugin.py").write_text(PLUGIN.replace("{score}", DOWN))
    assert code_of_classes([first]) == before
    second = load_plugins([folder / "plugin.py"]).registry.strategy("width", "sign")
    assert code_of_classes([second]) != before


def test_a_package_counts_with_all_of_its_modules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    package = tmp_path / "made_up_package"
    (package / "deep").mkdir(parents=True)
    for name in ("__init__.py", "deep/__init__.py", "deep/own.py", "other.py"):
        (package / name).write_text("class Own: pass\n")
    monkeypatch.syspath_prepend(tmp_path)

    def told() -> str | None:
        for name in [name for name in sys.modules if name.startswith("made_up_package")]:
            del sys.modules[name]
        __import__("made_up_package.deep.own")
        return code_hash(sys.modules["made_up_package.deep.own"])

    found = told()
    assert told() == found
    (package / "other.py").write_text("class Other: pass\n")
    assert told() != found
    found = told()
    (tmp_path / "apart.py").write_text("")
    assert told() == found


def test_a_data_file_beside_a_plugin_counts_where_it_is_named(tmp_path: Path) -> None:
    plugin = tmp_path / "plugin.py"
    plugin.write_text("TABLE = 'table.json'\nimport json, torch\nfrom .. import above\n")
    alone = file_hash(plugin)
    (tmp_path / "table.json").write_text("[1]")
    one = file_hash(plugin)
    (tmp_path / "table.json").write_text("[2]")
    assert len({alone, one, file_hash(plugin)}) == 3


def test_strategies_inside_others_count_and_those_of_swm_are_told_by_its_own_code(plugins: Plugins) -> None:
    merger = plugins.registry.build("merger", {"name": "distilled", "start": {"name": "average"}})
    assert code_of([merger]) == []
    assert len(machine()["swm_code"]) == 16
    own = code_of([[{"stage": Holder(merger, Holder(None, None))}]])
    assert own == code_of_classes([Holder])
    assert own is not None
    assert len(own) == 1
    assert code_by_module([Holder(merger, None)]) == {__name__: own[0]}
    assert code_by_module([merger]) == {}


def test_less_exact_matrix_products_are_another_machine() -> None:
    exact = machine()
    torch.set_float32_matmul_precision("medium")
    try:
        assert machine() == {**exact, "matmul_precision": "medium"}
    finally:
        torch.set_float32_matmul_precision("highest")


def test_code_without_a_file_is_not_believed_to_be_the_same(plugins: Plugins) -> None:
    typed = type("Typed", (), {"__module__": "typed_into_a_console"})
    assert code_of_classes([typed]) is None


def test_an_edit_of_swm_itself_is_another_code(tmp_path: Path) -> None:
    shutil.copytree(Path(provenance.__file__).parents[1] / "similarity", tmp_path / "one")
    shutil.copytree(tmp_path / "one", tmp_path / "two")
    assert package_hash(tmp_path / "one") == package_hash(tmp_path / "two")
    shutil.copytree(tmp_path / "one", tmp_path / "three")
    (tmp_path / "three" / "cosine.py").write_text("")
    assert package_hash(tmp_path / "three") != package_hash(tmp_path / "one")


@pytest.mark.parametrize(
    "change",
    [
        {"rope_parameters": {"rope_type": "default", "rope_theta": 7777.0}},
        {"rms_norm_eps": 0.01},
        {"hidden_act": "gelu"},
    ],
)
def test_another_config_is_another_model_though_the_weights_are_the_same(
    tiny: Callable[..., PreTrainedModel], view_of: Callable[[PreTrainedModel], ModelView], change: dict[str, Any]
) -> None:
    one, other = view_of(tiny("llama")), view_of(tiny("llama", **change))
    assert one.weights_fingerprint() == other.weights_fingerprint()
    assert one.fingerprint() != other.fingerprint()
    assert view_of(tiny("llama")).fingerprint() == one.fingerprint()


def test_another_table_of_rotary_embeddings_is_another_model(llama: ModelView) -> None:
    before = llama.fingerprint()
    [table] = [value for name, value in llama.model.named_buffers() if name.endswith(".inv_freq")]
    table.mul_(0.5)
    assert llama.fingerprint() != before


def test_the_state_of_a_training_belongs_to_the_code_and_to_the_family_row(
    llama: ModelView, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    def folder() -> Path:
        recovery = plugins.registry.build("recovery", {"name": "lora", "data": ["a text"]})
        original = Original(lambda: None, llama.family, None, Silent(), "f")
        return original.recovery(llama, recovery, 0, lambda step, loss: None).folder  # type: ignore[arg-type]

    found = folder()
    assert folder() == found
    monkeypatch.setattr("swm.provenance.dependencies.package_hash", lambda folder: "other code")
    assert folder() != found


def test_what_the_model_writes_belongs_to_its_tokenizer_and_settings(
    llama: ModelView, plugins: Plugins, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWM_CACHE", str(tmp_path))
    text = plugins.registry.build("text", {"name": "generated", "count": 2, "tokens": 8})

    def written(tokenizer: Any) -> int:
        Original(lambda: None, llama.family, tokenizer, Silent()).write_texts(llama, [text])  # type: ignore[list-item]
        return len(list((tmp_path / "generated").iterdir()))

    assert (written(tiny_tokenizer()), written(tiny_tokenizer())) == (1, 1)
    llama.model.generation_config.repetition_penalty = 1.5  # type: ignore[union-attr]
    assert written(tiny_tokenizer()) == 2
    other = type(tiny_tokenizer()).from_pretrained  # the class that makes tokenizers out of folders
    tiny_tokenizer().save_pretrained(tmp_path / "tokenizer")
    changed = other(tmp_path / "tokenizer", bos_token="</s>")
    assert tokenizer_hash(changed) != tokenizer_hash(tiny_tokenizer())
    assert written(changed) == 3
    assert torch.get_num_threads() == machine()["threads"]
