"""What llama.cpp computes under the name of an architecture in a GGUF file, as rows of data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class GgufArchitecture:
    """An architecture of GGUF and the models that it can hold. It belongs to the row of a family.

    What a model has and the row does not allow is refused: llama.cpp would compute something else, and say nothing.
    """

    # As `general.architecture` of the file says.
    name: str
    # Those of the family's model types that it holds.
    model_types: tuple[str, ...]
    # The activations of the MLP that it computes, as `hidden_act` of the config names them.
    activations: tuple[str, ...] = ("silu",)
    # The config's field with their name.
    activation: str = "hidden_act"
    # The projections and norms that may have a bias, by their names in the file.
    biases: tuple[str, ...] = ()
    # Layers may have widths of their own, and lack their attention or their MLP.
    own_shapes: bool = False
    # Heads need not be as wide together as the hidden size.
    free_heads: bool = True
    # Rotary pairs lie side by side, not half a head apart as in transformers: rows of queries and keys change places.
    rotary_pairs: bool = False
    # Kinds of rotary tables, as `rope_type` of the config names them; none for learned positions.
    ropes: tuple[str, ...] = ("default",)
    # What is added to the weights of norms: some models store the difference from one.
    norm_offset: float = 0.0
    # The config's field with the epsilon of the norms, and whether these are RMS norms.
    epsilon: str = "rms_norm_eps"
    rms: bool = True
    # The vocabulary projection is always the embedding.
    tied: bool = False
    # Every so many layers one reads all tokens, the others a window of them; 0 where all read all.
    window_period: int = 0
    # Further metadata keys, and the config's fields that they are read from.
    values: Mapping[str, str] = field(default_factory=dict)
    # Fields of the config that must have this value, as the file has no place for another.
    fixed: Mapping[str, Any] = field(default_factory=dict, repr=False)
    # The factor of attention scores is that of the channels of a head; the config's field that must say so.
    score_scale: str = ""
    # A list in the config with an entry for each layer, true but for the last one of so many.
    periodic: Mapping[str, int] = field(default_factory=dict)
    # Numbers of layers from which llama.cpp concludes something else about the model.
    unlike_layers: tuple[int, ...] = ()
