"""`examples/plugins`: each file is short, passes the kit, computes what it says, and runs in the recipe."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import house
import pytest
import torch

from swm import CompressionPipeline, LayerWindow, UnitGroup, load_plugins, load_recipe
from swm.interfaces.width import CoupledWeight, InputStatistics
from swm.testing import checks_for, tiny_model, tiny_tokenizer

EXAMPLES = house.ROOT / "examples" / "plugins"
FILES = sorted(EXAMPLES.glob("*.py"))

registry = load_plugins(FILES).registry
Neighbours: Any = registry.strategy("similarity", "neighbours")
Ties: Any = registry.strategy("merger", "ties")
OutputShare: Any = registry.strategy("width", "output-share")

TestNeighbours = checks_for(Neighbours, {}, {"neighbours": 1}, families=("llama",), fresh_process=False)
TestTies = checks_for(Ties, {}, {"density": 1.0}, families=("llama", "gpt2"), fresh_process=False)
TestOutputShare = checks_for(OutputShare, {}, {"power": 0.0}, families=("llama", "gpt2"), fresh_process=False)


@pytest.mark.parametrize("file", FILES, ids=lambda file: file.stem)
def test_a_plugin_has_less_than_thirty_lines_besides_imports(file: Path) -> None:
    lines = file.read_text(encoding="utf-8").splitlines()
    assert len([line for line in lines if line and not re.match(r"(from|import) ", line)]) < 30


def test_the_recipe_uses_all_of_them_and_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(house.ROOT)
    tiny_model("llama", max_position_embeddings=512).save_pretrained(tmp_path / "model")
    tiny_tokenizer().save_pretrained(tmp_path / "model")
    recipe, plugins = load_recipe(
        EXAMPLES / "recipe.yaml",
        [
            f"model={tmp_path / 'model'}",
            "calibration.samples=4",
            "calibration.seq_len=16",
            "evaluate.perplexity.seq_len=32",
            "evaluate.perplexity.max_tokens=256",
            "evaluate.max_new_tokens=4",
            f"output={tmp_path / 'out'}",
        ],
    )
    depth, width = (stage.spec() for stage in recipe.stages)
    used = [part["name"] for part in (depth["similarity"], depth["merger"], width["pruner"])]
    assert used == ["neighbours", "ties", "output-share"]
    done = CompressionPipeline(recipe, plugins).run()
    assert done.report["achieved"]["layers"] == 1
    assert done.report["verification"]["generated_equal"]
    [ties] = done.plan.plugins
    assert (ties["path"], ties["provides"]) == ("examples/plugins/ties.py", ["merger ties"])


def test_neighbours_that_stay_are_counted() -> None:
    """Three tokens on a circle: 0 and 1 are near to each other, 2 is nearer to 1; then 2 moves over to 0."""
    degrees = torch.tensor([[0.0, 20.0, 60.0], [0.0, 20.0, -10.0]]).deg2rad()
    before, after = torch.stack([degrees.cos(), degrees.sin()], dim=-1)[:, None]
    assert Neighbours(neighbours=1).compare(before, 5 * before) == 1
    # 0: 1 -> 2, 1: 0 -> 0, 2: 1 -> 0
    assert Neighbours(neighbours=1).compare(before, after) == pytest.approx(1 / 3)
    assert Neighbours(neighbours=2).compare(before, after) == 1


def test_differences_are_trimmed_and_agree_in_sign() -> None:
    rows = [[0.0, 0.0, 0.0, 0.0], [4.0, -3.0, 1.0, 0.0], [2.0, 5.0, 0.5, 0.0]]
    window = LayerWindow([{"mlp.up.weight": torch.tensor([row]), "norms.a.weight": torch.ones(4)} for row in rows])
    merged = Ties(density=0.5).merge(window)
    # The two largest of each: 4, -3 and 2, 5; where signs differ the larger side wins.
    torch.testing.assert_close(merged["mlp.up.weight"], torch.tensor([[3.0, 5.0, 0.0, 0.0]]))
    assert merged["norms.a.weight"] is window.states[0]["norms.a.weight"]
    whole = Ties(density=1.0).merge(window)["mlp.up.weight"]
    torch.testing.assert_close(whole, torch.tensor([[3.0, 5.0, 0.75, 0.0]]))


def test_each_output_counts_alike() -> None:
    """Unit 0 makes all of a huge output, units 1 and 2 share three small ones."""
    weight = torch.tensor([[100.0, 0.0, 0.0, 0.0], [0.0, 1.0, 3.0, 1.0], [0.0, 1.0, 1.0, 3.0]])
    squares = torch.tensor([1.0, 1.0, 81.0])
    inputs = InputStatistics(squares * 0, squares.sqrt(), squares, tokens=10)
    group = UnitGroup(0, "mlp", 3, [CoupledWeight("down", weight, reads=True)], inputs)
    alike = OutputShare(power=0.0).score(group)
    torch.testing.assert_close(alike, torch.tensor([0.75, 1.125, 1.125], dtype=torch.float64))
    # A third input three times as large in the root: 1:3, 3:3, 1:9.
    scored = OutputShare().score(group)
    torch.testing.assert_close(scored, torch.tensor([1.0, 0.25 + 0.5 + 0.1, 0.75 + 0.5 + 0.9]).double() * 0.75)
