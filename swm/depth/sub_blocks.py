"""The sub-blocks of a model that can go, and what exactly goes with a choice of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from torch import Tensor

from swm.depth.program import SubBlock
from swm.errors import FamilyError
from swm.interfaces.stage import StageContext
from swm.model.block_probe import layer_probes
from swm.model.blocks import Removal, RemovedModule, block_modules, block_name
from swm.model.view import ModelView


def sub_blocks(view: ModelView, ids: Tensor) -> list[SubBlock]:
    """All that can go, in the order of the residual stream.

    `ids` is a text `[samples, seq]`, of which a few tokens are run. Raises FamilyError where there are none.
    """
    blocks: list[SubBlock] = []
    why = "no layer has an attention or an MLP that can be told from the rest"
    for probe in layer_probes(view, ids):
        module = probe.layer.module
        for part in block_modules(module, view.family):
            try:
                view.family.check_proven(block_name(part))
                removal = probe.removal(part)
            except FamilyError as error:
                why = str(error)
                continue
            whole = probe.with_norms(removal)
            size = sum(p.numel() for path in whole for p in module.get_submodule(path).parameters())
            blocks.append(SubBlock(probe.layer.position, part, tuple(removal.items()), size))
    if not blocks:
        raise FamilyError(why)
    return blocks


def removable(context: StageContext, blocks: Sequence[SubBlock]) -> list[SubBlock]:
    """Those without which the result can be saved. Raises FamilyError where there are none."""
    kept = [block for block in blocks if not (context.needs.first_attention and _is_first_attention(block))]
    if not kept:
        raise FamilyError("the layout needs an attention in the first layer, and there is nothing else to remove")
    return kept


def _is_first_attention(block: SubBlock) -> bool:
    return block.position == 0 and block.part == "attention"


def removals(view: ModelView, ids: Tensor, gone: Sequence[SubBlock]) -> list[tuple[SubBlock, Removal]]:
    """What goes with each of these: its modules, and the norms that nothing reads once those before it are gone.

    `ids` is a text `[samples, seq]`, of which a few tokens are run.
    """
    probes = layer_probes(view, ids)
    before: dict[int, dict[str, RemovedModule]] = {}
    result: list[tuple[SubBlock, Removal]] = []
    for block in sorted(gone, key=lambda block: (block.position, block.part)):
        taken = before.setdefault(block.position, {})
        together: Mapping[str, RemovedModule] = probes[block.position].with_norms({**taken, **dict(block.modules)})
        result.append((block, {path: module for path, module in together.items() if path not in taken}))
        taken.update(together)
    return result
