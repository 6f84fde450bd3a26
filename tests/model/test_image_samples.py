"""Text and images in one calibration: each sample is read as the whole model reads it, and layers replay from that."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor
from zoo import LAYERS
from zoo_multimodal import IMAGE, MULTIMODAL, multimodal_model

from swm.builtin.families import BUILTIN_FAMILIES
from swm.checkpoint.image_prompt import image_prompt
from swm.errors import FamilyError
from swm.interfaces.text import Calibration
from swm.model.families import find_family
from swm.model.samples import Samples
from swm.model.view import ModelView
from swm.width.gradients import layer_gradients

QUICK = ("gemma3", "llava", "qwen3_vl")
TAKEN = [
    name if name in QUICK else pytest.param(name, marks=pytest.mark.slow)
    for name in MULTIMODAL
    if name not in ("llama4", "mllama")
]


def view_of(name: str, dtype: torch.dtype = torch.float32) -> ModelView:
    model = multimodal_model(name).to(dtype)
    if dtype == torch.float64:
        # The kernel for grouped products knows no float64.
        model.set_experts_implementation("eager")
    return ModelView(model, find_family(model.config, BUILTIN_FAMILIES))


def mixed(model: Any) -> Samples:
    """Text, an image, two texts, and another image."""
    image = image_prompt(model)
    ids = image.pop("input_ids")
    other = {**image, "pixel_values": image["pixel_values"].flip(-1) + 0.5}
    text = torch.arange(3, 3 + ids.shape[1])[None]
    return Samples(torch.cat([text, ids, text + 1, text.flip(1), ids]), {1: image, 4: other}, [IMAGE])


@torch.no_grad()
def alone(view: ModelView, samples: Samples) -> tuple[list[Tensor], Tensor]:
    """What enters each layer, and the logits, of each sample run by itself through the whole model."""
    entering: list[list[Tensor]] = [[] for _ in view.layers]
    handles = [
        layer.register_forward_pre_hook(
            lambda module, args, kwargs, to=to: to.append(args[0] if args else kwargs["hidden_states"]),
            with_kwargs=True,
        )
        for layer, to in zip(view.layers, entering, strict=True)
    ]
    model: Any = view.model
    try:
        logits = [
            model(input_ids=samples.ids[row : row + 1], **samples.images.get(row, {}), use_cache=False).logits
            for row in range(len(samples))
        ]
    finally:
        for handle in handles:
            handle.remove()
    return [torch.cat(states) for states in entering], torch.cat(logits)


@pytest.mark.parametrize("name", TAKEN)
def test_a_recording_of_text_and_images_is_that_of_each_sample_alone(name: str) -> None:
    # Twice the digits: in float32 samples of a batch may be rounded in another way than alone, by machine.
    view = view_of(name, torch.float64)
    samples = mixed(view.model)
    states, logits = alone(view, samples)
    recording = view.record(samples)
    assert recording.rows == [slice(0, 1), slice(1, 2), slice(2, 4), slice(4, 5)]
    for position, expected in enumerate(states):
        torch.testing.assert_close(recording.states[position], expected, atol=1e-5, rtol=0)
    for replayed in (recording, view.record(samples, only_first=True)):
        hidden = replayed.states[0]
        for position in range(LAYERS):
            hidden = view.run_layer(replayed, position, hidden)
        torch.testing.assert_close(view.logits(hidden), logits, atol=1e-5, rtol=0)
    assert (logits[1] - logits[4]).abs().max() > 0.1, "the image does not count"
    added = [[call.added is not None for call in calls] for calls in recording.calls]
    bound = view.family.bound_layers(view.model_config)
    assert added == [[one and i < bound for i in range(LAYERS)] for one in (False, True, False, True)]


@pytest.mark.parametrize("name", TAKEN)
def test_gradients_are_those_of_the_loss_without_the_pieces_of_images(name: str) -> None:
    view = view_of(name)
    samples = mixed(view.model)
    wanted, total = dict(view.layers[1].named_parameters()), torch.zeros(())
    model: Any = view.model
    for row in range(len(samples)):
        ids = samples.ids[row : row + 1]
        logits = model(input_ids=ids, **samples.images.get(row, {}), use_cache=False).logits[0, :-1]
        counts = ids[0, 1:] != IMAGE
        total = total + F.cross_entropy(logits[counts], ids[0, 1:][counts], reduction="sum")
    assert int((samples.ids[:, 1:] == IMAGE).sum()) > 1
    loss = total / int((samples.ids[:, 1:] != IMAGE).sum())
    expected = dict(zip(wanted, torch.autograd.grad(loss, list(wanted.values()), allow_unused=True), strict=True))
    compared = 0
    for position, gradients, _ in layer_gradients(view, samples, {1}, per_sample=False):
        for key, gradient in gradients.items():
            own = expected[view.family.native(key)] if position == 1 else None
            if own is not None:
                torch.testing.assert_close(gradient, own, atol=1e-5, rtol=1e-3)
                compared += 1
    assert compared


def test_nothing_of_an_image_stays_in_the_model() -> None:
    view = view_of("qwen2_vl")
    outer: Any = view.model.get_submodule("model")
    view.record(mixed(view.model))
    assert outer.rope_deltas is None


def test_a_model_that_changes_states_between_layers_must_say_so_in_its_row() -> None:
    view = view_of("qwen3_vl")
    view.family = dataclasses.replace(view.family, bound_first="")
    with pytest.raises(FamilyError, match="changes hidden states between its layers"):
        view.record(mixed(view.model))


def test_samples_are_chosen_with_their_images() -> None:
    ids = torch.tensor([[5, 6, 7], [9, 9, 4], [5, 9, 3], [8, 8, 8]])
    samples = Samples(ids, {1: {"a": torch.zeros(1)}, 2: {"a": torch.ones(1)}}, [9])
    assert [list(samples[rows].images) for rows in (slice(2), slice(2, 4), [3, 2, 1])] == [[1], [0], [1, 2]]
    assert torch.equal(samples[[3, 2, 1]].images[1]["a"], torch.ones(1))
    assert samples.batches() == [slice(0, 1), slice(1, 2), slice(2, 3), slice(3, 4)]
    assert samples.predicted.tolist() == [[True, True], [False, True], [False, True], [True, True]]
    assert samples.text.tolist() == [[5, 6, 7], [4, 4, 4], [5, 3, 3], [8, 8, 8]]


def test_the_fingerprint_covers_the_images() -> None:
    ids = torch.tensor([[9, 9, 4]])
    image = {"pixel_values": torch.zeros(1, 3, 2, 2)}
    text, one = Calibration(ids, {}, 0), Calibration(ids, {}, 0, {}, {0: image}, [9])
    other = Calibration(ids, {}, 0, {}, {0: {"pixel_values": torch.full((1, 3, 2, 2), 0.5)}}, [9])
    assert len({text.fingerprint, one.fingerprint, other.fingerprint}) == 3
    assert one.record()["images"] == 1
    assert "images" not in text.record()
