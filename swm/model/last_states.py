"""last_states: what leaves the last layer of a model, without what leaves the others."""

from __future__ import annotations

from torch import Tensor

from swm.model.finite import check_finite
from swm.model.samples import Samples
from swm.model.view import ModelView


def last_states(view: ModelView, text: Tensor | Samples) -> Tensor:
    """What leaves the last layer for a text, `[samples, seq, hidden]`; the states at two places are kept at a time.

    Args:
        view: The model.
        text: Tokens `[samples, seq]`, or samples of which some hold an image.

    Raises:
        ModelError: They are not finite, or the model answers the same whatever it reads.
    """
    recording = view.record(text, only_first=True)
    hidden = recording.states.pop()
    for position, number in enumerate(view.numbers):
        hidden = view.run_layer(recording, position, hidden)
        check_finite(hidden, f"the output of layer {number} holds", view.dtype)
    view.head.check_answers(recording.ids, hidden)
    return hidden
