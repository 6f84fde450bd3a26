"""Parameters that a token passes, and what each expert has to do, in every place that tells of them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from zoo import zoo_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.commands.diagnosis import diagnose
from swm.interfaces.progress import Silent
from swm.interfaces.text import Calibration
from swm.measure.inspection import Inspection, inspect_model
from swm.model.expert_surgery import keep_experts
from swm.model.families import find_family
from swm.model.shape import active_parameters, shape_now, widths
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.report.comparison import compare, read_result
from swm.report.inspection_files import write_inspection
from swm.similarity.cosine import Cosine
from swm.testing import tiny_tokenizer

# Of one expert of the tiny Mixtral: gate, up and down.
EXPERT = 3 * 128 * 64


def view_of(name: str) -> ModelView:
    model = zoo_model(name)
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def test_a_token_passes_two_of_four_experts() -> None:
    view = view_of("mixtral")
    assert active_parameters(view) == view.parameters() - 4 * 2 * EXPERT
    for position in range(4):
        keep_experts(view, position, [0, 2, 3])
    assert active_parameters(view) == view.parameters() - 4 * EXPERT
    assert shape_now(view).active_parameters == active_parameters(view)
    assert widths(view)["experts"] == 3


@pytest.mark.parametrize(("name", "mixed", "held"), [("qwen3_moe", 3, 3 * 32 * 64), ("llama4_text", 2, 3 * 128 * 64)])
def test_layers_without_experts_and_shared_experts_count_whole(name: str, mixed: int, held: int) -> None:
    view = view_of(name)
    idle = 3 if name == "llama4_text" else 2
    assert active_parameters(view) == view.parameters() - mixed * idle * held


def test_all_parameters_of_a_dense_model_are_active() -> None:
    view = view_of("llama")
    assert active_parameters(view) is None
    assert "experts" not in widths(view)


@pytest.fixture(scope="module")
def inspected() -> Inspection:
    ids = torch.arange(3, 51).reshape(3, 16)
    return inspect_model(view_of("qwen3_moe"), Calibration(ids, {"name": "python-docs"}, 0), Cosine())


def test_the_load_of_experts(inspected: Inspection, tmp_path: Path) -> None:
    assert [load.layer for load in inspected.experts] == [0, 2, 3]
    for load in inspected.experts:
        assert sum(load.share) == pytest.approx(load.top_k) == 2
        assert all(0 <= share <= 1 for share in load.share)
        assert [output > 0 for output in load.output] == [share > 0 for share in load.share]
    write_inspection(inspected, tmp_path / "figures")
    numbers = json.loads((tmp_path / "figures" / "inspection.json").read_text())
    assert numbers["active_parameters"] == inspected.active_parameters < numbers["parameters"]
    assert [load["layer"] for load in numbers["experts"]] == [0, 2, 3]
    drawn = (tmp_path / "figures" / "experts.svg").read_text()
    assert "a token takes 2 of 4 experts" in drawn
    assert (tmp_path / "figures" / "experts.png").stat().st_size > 1000


def test_nothing_is_told_of_experts_of_a_dense_model() -> None:
    ids = torch.arange(3, 51).reshape(3, 16)
    found_of = inspect_model(view_of("llama"), Calibration(ids, {"name": "python-docs"}, 0), Cosine())
    assert found_of.experts == ()
    assert not {"experts", "active_parameters"} & found_of.to_dict().keys()


def test_doctor_says_what_a_token_passes(tmp_path: Path, plugins: Plugins) -> None:
    model = zoo_model("mixtral")
    model.save_pretrained(tmp_path / "mixtral")
    tiny_tokenizer().save_pretrained(tmp_path / "mixtral")
    findings = diagnose(plugins, str(tmp_path / "mixtral"), Silent())[f"model {tmp_path / 'mixtral'}"]
    count = model.num_parameters()
    assert findings["parameters"] == f"{count:,}, of which a token passes {count - 8 * EXPERT:,}"
    assert findings["width: experts"] == "4 in 4 layers, of which a token takes 2 (num_local_experts)"


def test_a_comparison_shows_both_sizes(tmp_path: Path) -> None:
    perplexity = {"compressed": {"value": 2.0, "protocol": {}}}
    sizes = {"parameters": 90, "layers": 4, "active_parameters": 40}
    (tmp_path / "a.json").write_text(json.dumps({"compressed": sizes, "perplexity": perplexity}))
    del sizes["active_parameters"]
    (tmp_path / "b.json").write_text(json.dumps({"compressed": sizes, "perplexity": perplexity}))
    both = [read_result(tmp_path / name) for name in ("a.json", "b.json")]
    shown = {row.name: [value and value.value for value in row.values] for row in compare(both)}
    sizes_shown = {"parameters": [90, 90], "active parameters": [40, None], "layers": [4, 4]}
    assert shown == {**sizes_shown, "perplexity": [2.0, 2.0]}
    assert "active parameters" not in {row.name for row in compare(both[1:])}
