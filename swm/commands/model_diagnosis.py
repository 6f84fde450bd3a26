"""What applies to a model, and why other things do not."""

from __future__ import annotations

from typing import Any

from swm.checkpoint.layout import head_counts
from swm.derivation.known_model import known_model
from swm.errors import FamilyError, SwmError, listed
from swm.interfaces.depth import DepthPruner
from swm.interfaces.progress import Progress
from swm.loading import models
from swm.model.expert_channels import channel_counts
from swm.model.shape import shape_now
from swm.model.text_config import text_config
from swm.model.token_ids import special_ids
from swm.model.units import BLOCKS, ROUTED, Geometry, Part
from swm.model.view import ModelView
from swm.model.vocabulary_surgery import check_vocabulary
from swm.model.width_fields import widest_geometry
from swm.plugins.registry import Registry, require_interface
from swm.vocabulary.choice import Vocabulary
from swm.vocabulary.tokenizer_json import TokenizerJson
from swm.width.compensation import check_bias
from swm.width.limits import default_rounding


def diagnose_model(
    registry: Registry, model: str, progress: Progress, trust_remote_code: bool = False
) -> dict[str, Any]:
    """What applies to a model, and why other things do not.

    Args:
        registry: The strategies and family rows that are known.
        model: A hub id, a folder, a GGUF file or a registered name.
        progress: Shows what takes long.
        trust_remote_code: Whether the model's own code may run.
    """
    source = models.locate(model, registry, progress)
    config = models.load_config(source, trust_remote_code)
    findings: dict[str, Any] = {"folder": str(source.folder), "model_type": config.model_type}
    try:
        known = known_model(config, registry, trust_remote_code)
        family, empty = known.family, known.view
        shape = shape_now(empty)
    except SwmError as error:
        findings["supported"] = f"no: {error}"
        return findings
    findings["family row"] = f"{family.name}, of {known.origin} (layers at {family.layers})"
    findings.update({f"row: {name}": str(verdict) for name, verdict in known.proof.verdicts.items()})
    if known.remarks:
        findings["row: remarks"] = "; ".join(known.remarks)
    active = "" if shape.active_parameters is None else f", of which a token passes {shape.active_parameters:,}"
    findings["parameters"] = f"{shape.parameters:,}{active}"
    findings["layers"] = f"{shape.layers} of {shape.layer_parameters[0]:,} parameters"
    findings["projections"] = listed(family.projections)
    findings["layer types"] = _layer_types(config)
    bound = family.bound_layers(config)
    if bound:
        findings["protected layers"] = f"the first {bound}: features of the image are added behind them by number"
    findings["tied embeddings"] = "yes" if getattr(config, "tie_word_embeddings", False) else "no"
    findings["tokenizer"] = _tokenizer(source, config, trust_remote_code)
    findings["vocabulary cut"] = _vocabulary(source, config, trust_remote_code)
    corrections = models.corrections(source, config)
    if corrections:
        findings["corrected"] = "; ".join(corrections)
    findings.update(_widths(empty))
    findings.update(_experts(empty))
    for entry in registry.entries():
        if issubclass(entry.strategy, DepthPruner):
            findings[f"depth: {entry.strategy.name}"] = _capacity(registry, entry.strategy.name, shape.layers)
    return findings


def _capacity(registry: Registry, pruner: str, layers: int) -> str:
    """How many layers a depth pruner can remove; a plugin's error is part of the text, not raised."""
    try:
        most = require_interface(DepthPruner, registry.build_named(DepthPruner.kind, pruner, {})).capacity(layers)
    except SwmError as error:
        return f"only with parameters: {error}"
    except Exception as error:
        return f"broken: {type(error).__name__}: {error}"
    return f"up to {most} layers" if most > 0 else "no: the model has too few layers for its protected ones"


def _tokenizer(source: models.ModelSource, config: Any, trust_remote_code: bool) -> str:
    """How many tokens it knows; an error is part of the text, not raised."""
    try:
        tokenizer = models.load_tokenizer(source, trust_remote_code, config)
    except SwmError as error:
        return f"no: {error}"
    rows = text_config(config).vocab_size
    beyond = sum(i >= rows for i in tokenizer.get_vocab().values())
    more = f", {beyond} of them beyond the {rows:,} embeddings" if beyond else ""
    return f"{len(tokenizer):,} tokens{more}"


def _vocabulary(source: models.ModelSource, config: Any, trust_remote_code: bool) -> str:
    """To how few tokens the vocabulary can be cut, or why it cannot be cut."""
    try:
        check_vocabulary(config)
        tokenizer = TokenizerJson.of(models.load_tokenizer(source, trust_remote_code, config))
    except SwmError as error:
        return f"no: {error}"
    rows = text_config(config).vocab_size
    least = len(Vocabulary(tokenizer, rows, frozenset(special_ids(config, rows))).always())
    return f"to {least:,} of {rows:,} tokens or more"


def _widths(view: ModelView) -> dict[str, str]:
    """What of a layer can be made narrower, and why not."""
    try:
        shape = widest_geometry([view.layer(i).geometry for i in range(len(view.layers))])
    except FamilyError as error:
        return {"width: attention": f"no: {error}", "width: mlp": f"no: {error}"}
    findings = {"width: attention": _heads(view, shape), "width: mlp": _channels(view, shape)}
    for part in BLOCKS:
        try:
            check_bias(view.family, view.config, part)
        except FamilyError:
            if not findings[f"width: {part}"].startswith("no:"):
                findings[f"width: {part}"] += "; no bias for what flap compensates"
    if shape.queries > 1 and view.family.prunable_heads:
        findings["width: queries"] = f"{shape.heads} query heads, {shape.queries} to a KV head, removed evenly"
    return findings


def _experts(view: ModelView) -> dict[str, str]:
    """How many experts there are, and why they cannot go; empty for a model without."""
    try:
        blocks = [layer.experts for layer in map(view.layer, range(len(view.layers))) if layer.experts is not None]
    except FamilyError as error:
        return {"width: experts": f"no: {error}"}
    if not blocks or view.experts is None:
        return {}
    first = blocks[0]
    groups = f", in {first.groups} groups" if first.groups > 1 else ""
    count = f"{first.count} in {len(blocks)} layers{groups}, of which a token takes {first.top_k}"
    findings = {"width: experts": f"{count} ({view.experts.field})", "width: expert_channels": _expert_channels(view)}
    for part in ROUTED:
        if part in view.family.disproven:
            findings[f"width: {part}"] = f"no: {view.family.disproven[part]}"
    return findings


def _expert_channels(view: ModelView) -> str:
    """How many channels each expert has, and which field of the config says so."""
    counts = sorted(set(channel_counts(view)) - {0})
    if not counts:
        return "no: the weights of the experts do not tell which of their axes is which"
    field = view.expert_width
    alone = field is not None and field.alone
    said = f" ({field.name})" if field is not None and alone else "; with layout: custom only"
    return f"{', '.join(map(str, counts))} of each expert{said}"


def _heads(view: ModelView, shape: Geometry) -> str:
    if not view.family.prunable_heads:
        return "no: attention is as wide as the hidden size"
    if not shape.heads:
        return _unknown(view, "attention")
    if shape.kv_heads == 1:
        return "no: there is only one KV head"
    counts = head_counts(view, with_biases=False)
    accepted = counts is not None and len(counts) < shape.kv_heads
    taken = f"; the model class takes {', '.join(map(str, counts or ()))}" if accepted else ""
    return f"{shape.kv_heads} KV heads with {shape.queries} query heads each{taken}{_saved(view, 'attention')}"


def _channels(view: ModelView, shape: Geometry) -> str:
    if not shape.mlp:
        return _unknown(view, "mlp")
    return f"{shape.mlp} channels, rounded to multiples of {default_rounding(shape.mlp)}{_saved(view, 'mlp')}"


def _saved(view: ModelView, part: Part) -> str:
    return "; with layout: custom only" if view.family.only_custom(part) else ""


def _unknown(view: ModelView, part: Part) -> str:
    """Why no layer has units of this part that can be cut."""
    try:
        for position in range(len(view.layers)):
            view.layer(position).check_part(part)
    except FamilyError as error:
        return f"no: {error}"
    return "no: no layer has such a part that the family row names"


def _layer_types(config: Any) -> str:
    types = getattr(text_config(config), "layer_types", None)
    if not types:
        return "all alike"
    return ", ".join(f"{types.count(kind)} {kind}" for kind in dict.fromkeys(types))
