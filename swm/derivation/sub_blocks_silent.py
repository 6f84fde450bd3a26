"""The self-test of sub-blocks: a layer without its attention or its MLP is the layer with this one at zero."""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor
from transformers import GenerationConfig

from swm.derivation.comparing import PROVEN, Differs, check_counts, check_same, logits_of
from swm.derivation.probe import probe_ids
from swm.derivation.proof import RowVerdict
from swm.errors import FamilyError, brief
from swm.model.block_probe import layer_probes
from swm.model.blocks import Removal, block_modules
from swm.model.families import ModelFamily
from swm.model.quiet import quiet_transformers
from swm.model.ranges import format_ranges
from swm.model.surgery import remove_modules
from swm.model.units import READERS, Block
from swm.model.view import ModelView

# So many tokens are generated with a cache: the first follow a whole text, the others a token each.
TOKENS = 3


def without_blocks(model: Any, family: ModelFamily, part: Block) -> RowVerdict:
    """Whether the model without a part in every second layer is the model with that part at zero, also with a cache.

    Args:
        model: The model; it is left as it is.
        family: Its row.
        part: Which sub-block goes.

    Returns:
        The verdict. Raises what a row that is wrong leads to.
    """
    view = ModelView(model, family)
    having = [i for i, layer in enumerate(view.layers) if part in block_modules(layer, family)]
    if not having:
        return RowVerdict("refused", f"no layer has an {_name(part)} that can be told from the rest")
    probes, removals, why = layer_probes(view, probe_ids(view.config.vocab_size)), dict[int, Removal](), ""
    for position in having:
        try:
            removals[position] = probes[position].with_norms(probes[position].removal(part))
        except FamilyError as error:
            why = why or str(error)
    if not removals:
        return RowVerdict("refused", why)
    whole, cached = logits_of(model), _generated(model)
    for gone in filter(None, (list(removals)[::2], list(removals)[1::2])):
        cut, silent = (ModelView(copy.deepcopy(model), family) for _ in range(2))
        for position in gone:
            silence_block(silent, position, part)
            remove_modules(cut, position, removals[position])
        wanted = logits_of(silent.model)
        check_counts(wanted, whole, f"{_name(part)}s")
        what = f"the model without the {_name(part)} of layers {format_ranges(gone)}"
        check_same(logits_of(cut.model), wanted, what)
        if isinstance(cached, Tensor):
            _check_generated(cut.model, silent.model, what)
    notes = [f"layers {format_ranges(set(having) - set(removals))} keep theirs: {why}"] if why else []
    notes += [f"without a cache only: {cached}"] if isinstance(cached, str) else []
    return RowVerdict("proven", "; ".join(notes)) if notes else PROVEN


@torch.no_grad()
def silence_block(view: ModelView, position: int, part: Block) -> None:
    """Make the output projection zero; where the row does not name it, or experts have one each, all of the block."""
    layer, family = view.layers[position], view.family
    paths = block_modules(layer, family)[part]
    reader = family.projections.get(READERS[part], "")
    experts = any(p.dim() > 2 for path in paths for p in layer.get_submodule(path).parameters())
    dense = view.layer(position).has(READERS[part]) and reader.partition(".")[0] in paths and not experts
    for path in paths:
        for key, parameter in layer.get_submodule(path).named_parameters():
            if not dense or f"{path}.{key}".startswith(f"{reader}."):
                parameter.zero_()


def _generated(model: Any) -> Tensor | str:
    """The scores of tokens that are generated with a cache; why there are none where the class itself cannot."""
    ids = probe_ids(model.config.get_text_config().vocab_size)[:1]
    settings = GenerationConfig(
        do_sample=False, max_new_tokens=TOKENS, pad_token_id=0, return_dict_in_generate=True, output_logits=True
    )
    own = model.generation_config
    model.generation_config = GenerationConfig()
    try:
        with quiet_transformers():
            said = model.generate(input_ids=ids, attention_mask=torch.ones_like(ids), generation_config=settings)
    except Exception as error:  # a class fails in its own way
        return f"{type(error).__name__}: {brief(error)}"
    finally:
        model.generation_config = own
    return torch.cat(said.logits)


def _check_generated(cut: Any, silent: Any, what: str) -> None:
    """Raise Differs unless both give the same scores of the tokens that they generate."""
    wanted, said = _generated(silent), _generated(cut)
    if isinstance(wanted, str):
        # The class itself cannot.
        return
    if isinstance(said, str):
        raise Differs(f"{what} cannot generate with a cache: {said}")
    check_same(said, wanted, f"{what}, with a cache,")


def _name(part: Block) -> str:
    return "MLP" if part == "mlp" else "attention"
