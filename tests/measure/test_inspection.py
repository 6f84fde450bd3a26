"""Inspection: what is measured of a model, against numbers worked out by hand, and the folder it is written to."""

from __future__ import annotations

import errno
import json
import math
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from swm.errors import CheckpointError, ModelError, RecipeError
from swm.files.manifest import MANIFEST
from swm.interfaces.similarity import SampleMetric
from swm.interfaces.text import Calibration
from swm.measure.inspection import Inspection, check_metric, inspect_model
from swm.measure.layer_pairs import LayerPairs
from swm.model.recording import Recording
from swm.model.samples import Samples
from swm.model.surgery import keep_layers
from swm.model.view import ModelView
from swm.plugins.loading import Plugins
from swm.report.inspection_files import NUMBERS, check_folder, write_inspection
from swm.run.inspecting import build_inspection, inspect_named

FILES = [f"{name}.{kind}" for name in ("influence", "norms", "similarity") for kind in ("png", "svg")] + [NUMBERS]
METRICS: Sequence[Any] = (
    {"name": "cosine"},
    {"name": "cosine", "tokens": "each", "skip_first": 1},
    {"name": "angular"},
    {"name": "cka"},
    {"name": "cka", "kernel": "rbf", "estimator": "biased", "tokens": "mean"},
)


def calibration(ids: Tensor) -> Calibration:
    return Calibration(ids, {"name": "list"}, 0)


class Pretended(ModelView):
    """A view that says that its hidden states are the given ones, `[boundaries, samples, seq, hidden]`."""

    states: Tensor

    def record(self, text: Tensor | Samples, *settings: Any, **more: Any) -> Recording:
        samples = Samples.of(text)
        rows = samples.ids[:, 0]
        return Recording(samples, None, [boundary[rows] for boundary in self.states], [], [])


@pytest.fixture
def pretend(llama: ModelView, plugins: Plugins) -> Callable[..., Inspection]:
    """Inspects the given states with cosine of each token."""

    def inspected(states: Tensor, **options: Any) -> Inspection:
        view = Pretended(llama.model, llama.family)
        view.states, view.numbers = states, [2, 3, 7][: len(states) - 1]
        ids = torch.arange(states.shape[1])[:, None].expand(-1, states.shape[2])
        metric = plugins.registry.build("similarity", {"name": "cosine", "tokens": "each"})
        return inspect_model(view, calibration(ids), metric, **options)

    return inspected


def test_the_numbers_are_those_worked_out_by_hand(pretend: Callable[..., Inspection]) -> None:
    # One sample of two tokens with two features, at three boundaries around two layers.
    states = torch.tensor([[[3.0, 4.0], [1.0, 0.0]], [[4.0, 3.0], [0.0, 2.0]], [[40.0, 30.0], [2.0, 2.0]]])[:, None]
    found = pretend(states)
    # The cosines of the first layer are 24/25 and 0, those of the second 1 and the root of a half.
    half = math.sqrt(0.5)
    assert found.influence == pytest.approx([1 - 0.48, 1 - (1 + half) / 2])
    assert found.similarity[0] == pytest.approx([1, (1 + half) / 2])
    assert found.similarity[1] == pytest.approx([(1 + half) / 2, 1])
    entering, _, leaving = found.norms
    assert (entering.mean, entering.max, entering.mean_first, entering.mean_rest) == pytest.approx((3, 5, 5, 1))
    assert entering.largest_share == pytest.approx(25 / 26)
    assert leaving.largest_share == pytest.approx(2500 / 2508)
    assert entering.first_is_largest == 1
    assert found.layers == (2, 3)


def test_norms_are_means_over_samples_and_tell_where_the_largest_token_is(pretend: Callable[..., Inspection]) -> None:
    first = torch.tensor([[[1.0], [2.0], [4.0]], [[9.0], [2.0], [1.0]]])
    [norms, _] = pretend(torch.stack([first, first])).norms
    assert (norms.mean, norms.max, norms.mean_first, norms.mean_rest) == pytest.approx((19 / 6, 9, 5, 9 / 4))
    assert norms.largest_share == pytest.approx((16 / 21 + 81 / 86) / 2)
    assert norms.first_is_largest == 0.5


def test_patches_have_the_numbers_of_the_original_layers(pretend: Callable[..., Inspection]) -> None:
    # The outputs of the last two layers point the same way, that of the first does not.
    states = torch.tensor([[1.0, 0.0], [1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])[:, None, None].expand(-1, 2, 3, 2)
    found = pretend(states)
    assert found.patch_layers() == [[3, 7]]
    assert found.patch_threshold == 1
    assert pretend(states, patch_threshold=-1.0).patch_layers() == [[2, 3, 7]]
    assert found.to_dict()["patches"] == {"threshold": 1.0, "layers": [[3, 7]]}


@pytest.mark.parametrize("metric", METRICS, ids=str)
@pytest.mark.parametrize("size", [1, 2, 5])
def test_batches_give_exactly_what_all_samples_together_give(metric: Any, size: int, plugins: Plugins) -> None:
    built = plugins.registry.build("similarity", metric)
    states = [torch.randn(5, 7, 8) for _ in range(4)]
    pairs = LayerPairs(built, 5)
    for start in range(0, 5, size):
        pairs.add([layer[start : start + size] for layer in states])
    assert torch.equal(pairs.table(), built.pairwise(states))


def test_a_metric_that_is_not_symmetric_keeps_its_direction() -> None:
    class Share(SampleMetric):
        name = "share"

        def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
            return reference.mean(dim=(1, 2)) / candidate.mean(dim=(1, 2))

    states = [torch.full((2, 1, 1), float(value)) for value in (1, 2, 4)]
    pairs = LayerPairs(Share(), 2)
    pairs.add(states)
    assert torch.equal(pairs.table(), Share().pairwise(states))
    assert pairs.table()[0].tolist() == [1, 0.5, 0.25]


@pytest.mark.parametrize("metric", METRICS, ids=str)
def test_a_model_is_run_once_in_batches_that_change_nothing(
    metric: Any, llama: ModelView, ids: Tensor, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    built = plugins.registry.build("similarity", metric)
    whole = inspect_model(llama, calibration(ids), built)
    tokens: list[int] = []
    record = ModelView.record
    monkeypatch.setattr("swm.measure.inspection.TOKENS_PER_BATCH", 2 * ids.shape[1])
    monkeypatch.setattr(ModelView, "record", lambda self, text: tokens.append(text.ids.numel()) or record(self, text))
    batched = inspect_model(llama, calibration(ids), built)
    assert tokens == [24, 24, 12]
    torch.testing.assert_close(torch.tensor(batched.similarity), torch.tensor(whole.similarity), atol=1e-6, rtol=0)
    assert batched.influence == pytest.approx(whole.influence, abs=1e-6)
    assert [n.mean for n in batched.norms] == pytest.approx([n.mean for n in whole.norms])


def test_a_real_pass_agrees_with_the_metric_and_the_pruner(llama: ModelView, ids: Tensor, plugins: Plugins) -> None:
    states = llama.record(ids).states
    each = plugins.registry.build("similarity", {"name": "cosine", "tokens": "each"})
    found = inspect_model(llama, calibration(ids), each, name="tiny")
    torch.testing.assert_close(torch.tensor(found.similarity, dtype=torch.float64), each.pairwise(states[1:]))
    expected = [1 - each.compare(states[i], states[i + 1]) for i in range(6)]
    assert found.influence == pytest.approx(expected, abs=1e-6)
    assert len(found.norms) == 7
    assert json.loads(json.dumps(found.to_dict())) == found.to_dict()
    assert found.to_dict()["similarity"]["metric"] == {"name": "cosine", "tokens": "each", "skip_first": 0}


def test_every_family_can_be_inspected(view: ModelView, ids: Tensor, plugins: Plugins) -> None:
    found = inspect_model(view, calibration(ids), plugins.registry.build("similarity", "cka"))
    assert found.layers == tuple(range(6))
    assert all(0 < influence < 2 for influence in found.influence)


def test_layers_keep_their_original_numbers(llama: ModelView, ids: Tensor, plugins: Plugins) -> None:
    keep_layers(llama, [0, 2, 5])
    assert inspect_model(llama, calibration(ids), plugins.registry.build("similarity", None)).layers == (0, 2, 5)


def test_metrics_that_cannot_compare_layers_are_refused(llama: ModelView, ids: Tensor, plugins: Plugins) -> None:
    registry = plugins.registry
    with pytest.raises(RecipeError, match="'kl' compares next-token distributions, and layers have none"):
        inspect_model(llama, calibration(ids), registry.build("similarity", "kl"))
    with pytest.raises(RecipeError, match="use one that compares hidden states: angular, cka, cosine"):
        build_inspection({"model": "x", "similarity": "kl"}, plugins)
    with pytest.raises(RecipeError, match="similarity: skip_first: 12 leaves nothing"):
        check_metric(registry.build("similarity", {"name": "cosine", "skip_first": 12}), 5, 12)


@pytest.mark.parametrize(("boundary", "where"), [(0, "what enters the first layer"), (2, "the output of layer 3")])
def test_hidden_states_that_are_no_numbers_are_an_error(
    boundary: int, where: str, pretend: Callable[..., Inspection]
) -> None:
    states = torch.ones(4, 2, 3, 2)
    states[boundary:, 1, 2] = math.nan
    with pytest.raises(ModelError, match=f"{where} holds values that are not a number"):
        pretend(states)


def test_layers_that_cannot_be_compared_are_an_error(llama: ModelView, ids: Tensor, plugins: Plugins) -> None:
    class Nothing(SampleMetric):
        name = "nothing"

        def per_sample(self, reference: Tensor, candidate: Tensor, mask: Tensor | None = None) -> Tensor:
            return torch.full((len(reference),), math.nan)

    with pytest.raises(ModelError, match="similarity 'nothing' of layers 0 and 1 is not a number"):
        inspect_model(llama, calibration(ids), Nothing())


@pytest.fixture(scope="module")
def real(stories: Path, plugins: Plugins) -> Inspection:
    """The tiny real model, by its folder."""
    data = {"model": str(stories), "calibration": {"text": "python-docs", "samples": 3, "seq_len": 16}}
    return inspect_named(build_inspection(data, plugins), plugins)


def test_a_model_is_inspected_by_its_name(real: Inspection, stories: Path) -> None:
    assert real.model == stories.name
    assert real.layers == (0, 1, 2, 3, 4)
    assert real.calibration["samples"] == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"calibration": {"seq_len": 4096}}, "calibration.seq_len: found 4096; the model takes at most 512 tokens"),
        ({"calibration": {"text": "no.txt"}}, "calibration.text: text file no.txt does not exist"),
        ({"calibration": {"sample": 3}}, "unknown parameter 'sample'.*samples"),
        ({"device": "meta"}, "device: device 'meta' cannot be used"),
        ({"dtype": "int8"}, "dtype.*found 'int8'; allowed: 'auto', 'float32'"),
        ({"similarity": "cosin"}, "Did you mean 'cosine'"),
    ],
)
def test_mistakes_are_told_before_the_weights_are_loaded(
    changes: dict[str, Any], message: str, stories: Path, plugins: Plugins, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("swm.loading.models.load_model", lambda *args, **options: pytest.fail("weights were loaded"))
    with pytest.raises(Exception, match=message):
        inspect_named(build_inspection({"model": str(stories), **changes}, plugins), plugins)


def test_a_folder_holds_figures_and_numbers_and_nothing_is_left_beside_it(real: Inspection, tmp_path: Path) -> None:
    folder = write_inspection(real, tmp_path / "deep" / "out")
    assert sorted(file.name for file in folder.iterdir()) == sorted([*FILES, MANIFEST])
    assert json.loads((folder / NUMBERS).read_text()) == real.to_dict()
    assert [file.name for file in folder.parent.iterdir()] == ["out"]


def test_a_folder_that_holds_something_is_kept(real: Inspection, tmp_path: Path) -> None:
    empty = tmp_path / "empty"
    empty.mkdir()
    assert write_inspection(real, empty) == empty
    (empty / "old").touch()
    with pytest.raises(CheckpointError, match="exists; choose another or pass --overwrite"):
        write_inspection(real, empty)
    with pytest.raises(CheckpointError, match="holds what swm did not write, or what was changed since: old; move"):
        write_inspection(real, empty, overwrite=True)
    (empty / "old").unlink()
    write_inspection(real, empty, overwrite=True)
    foreign = tmp_path / "foreign"
    foreign.mkdir()
    (foreign / "mine.txt").touch()
    with pytest.raises(CheckpointError, match=r"has no inspection\.json, so swm did not write it"):
        check_folder(foreign, overwrite=True)


def test_a_failure_leaves_the_old_folder(real: Inspection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_inspection(real, tmp_path / "out")

    def full(*args: Any) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr("swm.report.inspection_files.write_figures", full)
    with pytest.raises(CheckpointError, match="cannot be written: No space left"):
        write_inspection(real, folder, overwrite=True)
    assert sorted(file.name for file in folder.iterdir()) == sorted([*FILES, MANIFEST])
    assert [file.name for file in tmp_path.iterdir()] == ["out"]
