"""`layout: nemotron-nas`: layers of different shapes as DeciLM has them, which several runtimes load.

mlx-lm builds them from `block_configs` alone. vLLM, SGLang and TensorRT-LLM have the class too, and take the class of
the config, whose blocks they read as attributes, from the folder.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from swm.checkpoint.coming import Coming
from swm.checkpoint.modelling_file import FolderForm
from swm.errors import listed
from swm.interfaces.shape_needs import ShapeNeeds
from swm.model.shape import geometries
from swm.model.units import Geometry
from swm.model.view import ModelView

MODEL_TYPE, CLASS = "nemotron-nas", "DeciLMForCausalLM"
# All but one of the runtimes round the width of an MLP up to a multiple of this.
CHANNELS = 256
NEEDS = ShapeNeeds(channels=CHANNELS, first_attention=True)
ACTIVATION = "silu"
WAYS = (
    "choose layout: gguf (for llama.cpp), custom (true shapes, loads with trust_remote_code) or padded (zeros to the "
    "widest layer)"
)
# What the runtimes ask of an attention and of an MLP besides; they take no other keys.
ATTENTION: dict[str, Any] = {
    "num_sink_tokens": None,
    "replace_with_linear": False,
    "sparsify": None,
    "unshifted_sink": False,
    "use_prefill_window_in_sink_attention": False,
    "window_length": None,
}
FFN: dict[str, Any] = {"replace_with_linear": False, "sparsify": None}
# In the class of the config: what reads `block.attention.no_op` needs more than mappings, and older readers ask for
# the base of the rotary table alone.
CONFIG_TEXT = """
    def __init__(self, **values):
        super().__init__(**values)
        self.block_configs = [Block(values) for values in getattr(self, "block_configs", None) or []]
        if getattr(self, "rope_theta", None) is None:
            self.rope_theta = (getattr(self, "rope_parameters", None) or {}).get("rope_theta", 10000.0)
"""
BLOCK_TEXT = '''class Block(dict):
    """A mapping whose values are also attributes."""

    def __init__(self, values):
        super().__init__({key: Block(value) if isinstance(value, dict) else value for key, value in values.items()})

    def __getattr__(self, name):
        if name in self:
            return self[name]
        raise AttributeError(name)


'''


def refusal(view: ModelView, coming: Coming) -> str:
    """Why no such folder can hold a model as it is and as it is going to be, with the ways out; empty where one can."""
    why = _model_refusal(view) or _coming_refusal(coming) or _layers_refusal(view)
    return f"layout: {MODEL_TYPE} {why}; {WAYS}" if why else ""


def _model_refusal(view: ModelView) -> str:
    config, family = view.model_config, view.family
    if config.model_type not in family.decilm:
        return f"holds layers as Llama and Mistral have them, not those of model_type '{config.model_type}'"
    biased = [name for name, _ in view.model.named_parameters() if name.endswith(".bias")]
    if biased:
        return f"has no place for biases (found {biased[0]})"
    activation = getattr(config, "hidden_act", None)
    if activation != ACTIVATION:
        return f"computes {ACTIVATION} in the MLPs, this model {activation}"
    if getattr(config, "sliding_window", None) is not None:
        return "holds no layers that read a window of tokens (sliding_window)"
    rope = (getattr(config, "rope_parameters", None) or {}).get("rope_type", "default")
    ropes = family.decilm[config.model_type]
    if rope not in ropes:
        return f"holds rotary tables of the types {listed(ropes)}, not {rope}"
    size = int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)
    if size * config.num_attention_heads != config.hidden_size:
        return (
            f"needs heads that are together as wide as the hidden size, {config.hidden_size}; "
            f"found {config.num_attention_heads} of {size}"
        )
    return ""


def _coming_refusal(coming: Coming) -> str:
    if {"attention", "queries"} & set(coming.parts):
        return "keeps all query heads of a layer or the whole attention goes; use units: [mlp]"
    return "has no place for the biases that the pruner adds" if coming.biases else ""


def _layers_refusal(view: ModelView) -> str:
    shapes = geometries(view)
    odd = [(view.numbers[i], shape.mlp) for i, shape in enumerate(shapes) if shape.mlp % CHANNELS]
    if odd:
        return f"needs MLP widths that are multiples of {CHANNELS}; found {odd[0][1]} in layer {odd[0][0]}"
    heads = {shape.heads for shape in shapes} - {0, view.config.num_attention_heads}
    if heads:
        return f"needs the same {view.config.num_attention_heads} query heads in each layer; found {min(heads)}"
    first = next((shape for shape in shapes if shape.heads or shape.mlp), None)
    if first is None or not first.heads:
        return "needs an attention in the first layer, without which vLLM does not run it"
    return ""


def _config(view: ModelView) -> dict[str, Any]:
    """What the runtimes read in config.json besides; without it they take values of their own."""
    config = view.config
    names = ("hidden_act", "max_position_embeddings", "rms_norm_eps", "tie_word_embeddings")
    same = {name: getattr(config, name) for name in names}
    no_biases = {"attention_bias": False, "mlp_bias": False}
    return {**same, **no_biases, "block_configs": block_configs(geometries(view), config.hidden_size)}


def block_configs(shapes: Sequence[Geometry], hidden: int) -> list[dict[str, Any]]:
    """The blocks of the config, one for each layer, for a hidden size."""
    return [
        {
            "attention": {**ATTENTION, "no_op": not shape.heads, "n_heads_in_group": shape.queries or None},
            "ffn": {**FFN, "no_op": not shape.mlp, "ffn_mult": ffn_mult(shape.mlp, hidden) if shape.mlp else None},
        }
        for shape in shapes
    ]


def ffn_mult(width: int, hidden: int) -> float:
    """The number from which the runtimes make a width that is a multiple of 256: `2 * ffn_mult * hidden / 3`, up to it.

    They cut off what is behind the point, and some keep six digits of it.
    """
    return round(3 * width / (2 * hidden), 6)


FORM = FolderForm(MODEL_TYPE, CLASS, BLOCK_TEXT, CONFIG_TEXT, _config)
