"""Which stages may follow one another."""

from __future__ import annotations

from pathlib import Path

from swm.checkpoint.coming import Coming
from swm.checkpoint.layout import LAYOUTS, expert_width_refusal, is_uneven, parts_refusal
from swm.errors import RecipeError
from swm.interfaces.stage import Stage
from swm.model.view import ModelView
from swm.recipe.recipe import Recipe

# How to save a model in another layout.
ALONE = "swm apply of its plan.yaml with --layout merged"


def check_stage_order(recipe: Recipe, index: int, output: Path | None, view: ModelView) -> None:
    """Check that a stage can follow the earlier ones, and that the result can be saved.

    Args:
        recipe: The recipe.
        index: The position of the stage among the recipe's stages.
        output: The folder of the result; None when none is written.
        view: The model, which needs no weights.

    Raises:
        RecipeError: For what cannot be done, with what to do instead.
    """
    stage, earlier, family = recipe.stages[index], recipe.stages[:index], view.family
    row = LAYOUTS[recipe.layout]
    places = [".".join(map(str, recipe.place(i))) for i in range(index)]
    uneven = [place for place, before in zip(places, earlier, strict=True) if before.uneven()]
    replaced = [place for place, before in zip(places, earlier, strict=True) if before.replaces]
    removed = stage.removed_kinds()
    trimmed = [place for place, before in zip(places, earlier, strict=True) if "tokens" in before.removed_kinds()]
    if "tokens" in removed and trimmed:
        raise RecipeError(f"{trimmed[0]} cuts the vocabulary already; say there which tokens stay")
    if "layers" in removed and uneven:
        again = any(stage.name == before.name for before in earlier)
        way = f"one {stage.name} can have the whole target" if again else f"put {stage.name} before {uneven[0]}"
        raise RecipeError(f"layers of different widths cannot be merged, and {uneven[0]} makes them so; {way}")
    if (removed & {"layers", "widths", "blocks"} or stage.needs_plain) and replaced:
        what = "layers and widths cannot be removed" if removed else "projections cannot be refitted"
        raise RecipeError(f"{what} once {replaced[0]} has put other modules in their place; put this stage first")
    _check_result(stage, view)
    own = stage.replaced_projections(family)
    for place, before in zip(places, earlier, strict=True):
        theirs = before.replaced_projections(family)
        twice = [role for role in own if role in theirs]
        if twice:
            raise RecipeError(
                f"{place} has put other modules in place of {', '.join(twice)} already, and it can be done only once; "
                "name other projections in one of the stages, or leave one out"
            )
    if stage.replaces and output is not None and not row.replaced:
        raise RecipeError(
            f"the stage puts modules in place of projections, which layout: {recipe.layout} cannot hold; add layout: "
            "factored (as they are, loads with trust_remote_code) or layout: merged (multiplied out, loads everywhere, "
            "no gain in size)"
        )
    if "blocks" in removed and output is not None and not (row.zeros or row.true_shapes):
        raise RecipeError(
            f"the stage removes attention or MLPs of some layers, which layout: {recipe.layout} cannot hold; add "
            "layout: padded (zeros in their place: loads everywhere, no gain in size) or layout: custom (without them, "
            "loads with trust_remote_code)"
        )
    refused = parts_refusal(family, stage.cut_parts(), stage.uneven(), recipe.layout)
    if "expert_channels" in stage.cut_parts() and not refused:
        refused = expert_width_refusal(view, stage.uneven(), recipe.layout)
    coming = Coming(stage.cut_parts(), stage.uneven(), "blocks" in removed, stage.adds_biases())
    refused = refused or (row.refusal(view, coming) if output is not None else "")
    if refused and output is not None:
        raise RecipeError(refused)
    if stage.uneven() and output is not None and not (row.zeros or row.true_shapes):
        raise RecipeError(
            f"the stage gives layers different widths, which layout: {recipe.layout} cannot hold; add layout: padded "
            "(loads everywhere, no gain in size) or layout: custom (true sizes, loads with trust_remote_code)"
        )


def _check_result(stage: Stage, view: ModelView) -> None:
    """Raise RecipeError for a stage that cannot follow the run whose result the model is."""
    removed = stage.removed_kinds()
    if stage.merges() and is_uneven(view):
        raise RecipeError(
            "layers of different widths cannot be merged, and those of this model have such; use merger: delete"
        )
    paths = {path for layer in view.replaced for path in layer}
    if not paths:
        return
    way = f"save the model with layout: merged first ({ALONE}), or start from the original model"
    if removed & {"widths", "blocks"} or stage.merges() or stage.needs_plain:
        what = "layers and widths cannot be cut or merged" if removed else "projections cannot be refitted"
        raise RecipeError(f"{what} where other modules are in place of projections, as in this model; {way}")
    taken = [role for role in stage.replaced_projections(view.family) if view.family.projections[role] in paths]
    if taken:
        raise RecipeError(
            f"other modules are in place of {', '.join(taken)} in this model already, and that can be done only once; "
            f"name other projections, or {way}"
        )
