"""What Python programs give to a run: a model object or a name, and text as tensors, strings, data sets or batches."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from os.path import exists  # False for what is too long for a path
from pathlib import Path
from typing import Any

from swm.derivation.known_model import KnownModel, known_model
from swm.errors import ModelError, RecipeError, at, quoted
from swm.interfaces.text import TextSource, leaves
from swm.loading.empty_model import view_of
from swm.loading.given import KINDS, GivenModel
from swm.loading.source import ModelSource
from swm.measure.protocol import EvaluationRecipe
from swm.plugins.registry import Registry, require_interface
from swm.recipe.recipe import Recipe
from swm.text.given_text import is_keyed
from swm.text.token_rows import natural_shape, samples_of

# Longer lists of strings stay out of recipes and reports, which then describe them.
INLINE = 100_000


def taken_model(model: Any, tokenizer: Any = None) -> tuple[str, GivenModel | None]:
    """What a recipe calls the model, and the model object where one was given in place of a name.

    Raises ModelError for what is neither, and RecipeError for a tokenizer beside a name.
    """
    if isinstance(model, str | Path):
        if tokenizer is not None:
            raise RecipeError(
                f"found {quoted(tokenizer)}; the tokenizer of a model that is named is read from its folder: leave it "
                "out, or give a model object",
                ("tokenizer",),
            )
        return str(model), None
    given = taken_object(model, tokenizer)
    return given.name, given


def taken_object(model: Any, tokenizer: Any = None) -> GivenModel:
    """A model object with its tokenizer. Raises ModelError for what is none."""
    with at("model"):
        if model is None or isinstance(model, str | Path):
            raise ModelError(f"found {quoted(model)}; {KINDS}")
        return GivenModel.of(model, tokenizer)


def taken_pair(given: Any) -> GivenModel | None:
    """A model object that may come with its tokenizer, as a pair of both. Raises ModelError for what is none."""
    if given is None or isinstance(given, GivenModel):
        return given
    return taken_object(*given) if isinstance(given, tuple) and len(given) == 2 else taken_object(given)


def taken_text(value: Any, registry: Registry, path: tuple[str | int, ...]) -> Any:
    """A text source of what lies in memory; a name, a path or a mapping with `name` as they are.

    Raises an SwmError with the path where it is no text.
    """
    if isinstance(value, Path):
        return str(value)
    if isinstance(value, str):
        _check_name(value, registry, path)
        return value
    if value is None or is_keyed(value):
        return value
    if isinstance(value, list) and all(isinstance(item, str) for item in value):
        value = tuple(value) if sum(map(len, value)) > INLINE else value
    return registry.build("text", value, path)


def _check_name(value: str, registry: Registry, path: tuple[str | int, ...]) -> None:
    """Raise RecipeError for a text in place of its name."""
    if any(char.isspace() for char in value) and value not in registry.names("text") and not exists(value):
        raise RecipeError(
            f"found {quoted(value)}; a name or a file stands here, and a text itself in a list: [text]", path
        )


def taken_calibration(value: Any, registry: Registry) -> Any:
    """The `calibration` of a recipe from a mapping of its keys, or from a text alone.

    Rows of token ids are all taken, in their own length, where the mapping says nothing else.
    """
    values = dict(value) if is_keyed(value) else {"text": value}
    values["text"] = taken_text(values.get("text"), registry, ("calibration", "text"))
    if values["text"] is None:
        del values["text"]
    rows = _rows(values.get("text"))
    if rows is not None:
        values["seq_len"] = seq_len = values.get("seq_len") or natural_shape(rows)[1]
        if isinstance(seq_len, int) and seq_len > 0:
            values.setdefault("samples", max(1, len(samples_of(rows, seq_len))))
    return values


def taken_evaluation(value: Any, registry: Registry) -> Any:
    """The `evaluate` of a recipe, whose perplexity may be a text alone; rows of token ids are whole windows."""
    if not isinstance(value, Mapping) or value.get("perplexity") is None:
        return value
    asked = value["perplexity"]
    values = dict(asked) if is_keyed(asked) else {"text": asked}
    if "text" in values:
        values["text"] = taken_text(values["text"], registry, ("evaluate", "perplexity", "text"))
    rows = _rows(values.get("text"))
    if rows is not None and values.get("preset") is None:
        values.setdefault("seq_len", max(2, *map(len, rows)))
    return {**value, "perplexity": values}


def taken_recipe(values: Mapping[str, Any], registry: Registry) -> dict[str, Any]:
    """The keys of a recipe with its calibration and evaluation text as sources."""
    ready = dict(values)
    if ready.get("calibration") is not None:
        ready["calibration"] = taken_calibration(ready["calibration"], registry)
    if "evaluate" in ready:
        ready["evaluate"] = taken_evaluation(ready["evaluate"], registry)
    if isinstance(ready.get("output"), Path):
        ready["output"] = str(ready["output"])
    return ready


def recipe_of(recipe: Recipe, given: GivenModel | None) -> Recipe:
    """The recipe of a run with this model object: by its name, where it lies. Raises RecipeError for a device map."""
    if given is None:
        return recipe
    if recipe.device_map is not None:
        raise RecipeError(
            f"found '{recipe.device_map}'; the model object lies on {given.device} already: leave device_map out",
            ("device_map",),
        )
    given.check_dtype(recipe.dtype)
    return replace(recipe, model=given.name, device=str(given.device) if recipe.device == "auto" else recipe.device)


def known_source(source: ModelSource, config: Any, registry: Registry, trust_remote_code: bool) -> KnownModel:
    """As `known_model`; of a model object, with the shapes that its layers have.

    Args:
        source: Where the model is.
        config: Its config.
        registry: The rows that are known.
        trust_remote_code: Whether the model's own code may run.

    Raises:
        FamilyError: As there.
        ModelError: As there.
    """
    known = known_model(config, registry, trust_remote_code)
    return known if source.given is None else replace(known, view=view_of(source.given.empty(), known.family))


def check_reader(asked: EvaluationRecipe, *others: str) -> None:
    """Raise ModelError where something needs a tokenizer, and there is none.

    `asked` is what is measured, and `others` are the keys of what else needs one.
    """
    needs = list(others)
    needs += ["tasks"] if asked.tasks else []
    needs += ["measures"] if asked.measures else []
    needs += ["prompts"] if asked.prompts else []
    needs += ["speed.prompt"] if asked.speed is not None and asked.speed.prompt is not None else []
    if needs:
        raise ModelError(f"there is none, and {', '.join(needs)} needs one; add tokenizer=...", ("tokenizer",))


def readers(recipe: Recipe) -> list[str]:
    """The keys of a recipe, but for what is measured, whose values need a tokenizer."""
    reading = [i for i, stage in enumerate(recipe.stages) if stage.texts() or "tokens" in stage.removed_kinds()]
    stages = list(dict.fromkeys(_place(recipe, i) for i in reading))
    return ["output", *stages] if recipe.output is not None else stages


def lies_in_memory(recipe: Recipe, given: GivenModel | None) -> list[str]:
    """The keys of a recipe whose values lie in the memory of this process alone, so that no file can hold them."""
    texts: list[tuple[str, TextSource | None]] = [("calibration.text", recipe.calibration.text)]
    if recipe.evaluate.perplexity is not None:
        texts.append(("evaluate.perplexity.text", recipe.evaluate.perplexity.text))
    texts += [(_place(recipe, i), text) for i, stage in enumerate(recipe.stages) for text in stage.texts()]
    keys = dict.fromkeys(key for key, text in texts if text is not None and _lies(text))
    return [*(["model"] if given else []), *keys]


def _lies(text: TextSource) -> bool:
    return any(leaf.text.in_memory for leaf in leaves(text))


def _place(recipe: Recipe, index: int) -> str:
    return ".".join(map(str, recipe.place(index)))


def _rows(text: Any) -> Sequence[Any] | None:
    return require_interface(TextSource, text).token_rows() if isinstance(text, TextSource) else None
