"""What a test by numbers says of a family row: of each thing that the row lets swm do, whether it is right."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal, get_args

from swm.model.families import ModelFamily
from swm.model.units import READERS, Block

State = Literal["proven", "refused", "wrong"]
# Layers run one by one; models without a layer; units cut in memory; models with fewer units built from their config;
# fewer experts, and channels of each; layers without their attention, or their MLP.
Capability = Literal[
    "layers",
    "fewer layers",
    "mlp",
    "mlp config",
    "heads",
    "heads config",
    "experts",
    "expert channels",
    "attention block",
    "mlp block",
]

CAPABILITIES: tuple[Capability, ...] = get_args(Capability)
# Without these a row is of no use.
NEEDED: tuple[Capability, ...] = ("layers", "fewer layers")
UNITS: Mapping[Block, Capability] = {"mlp": "mlp", "attention": "heads"}
CONFIGS: Mapping[Block, Capability] = {"mlp": "mlp config", "attention": "heads config"}
# What no row names, but what is found by numbers, may be found wrongly.
EXPERTS: Mapping[str, Capability] = {"experts": "experts", "expert_channels": "expert channels"}
SUB_BLOCKS: Mapping[Block, Capability] = {"attention": "attention block", "mlp": "mlp block"}

# There is nothing to cut, which is no fault of the row.
TOO_FEW = "no layer has two of them"


@dataclass(frozen=True)
class RowVerdict:
    """`proven`; `refused` where the row or the class does not claim it; `wrong` where the numbers differ."""

    state: State
    reason: str = ""

    def __str__(self) -> str:
        return f"{self.state}: {self.reason}" if self.reason else self.state


@dataclass(frozen=True)
class Proof:
    """The verdict on each capability of a row."""

    verdicts: Mapping[Capability, RowVerdict]

    def of(self, state: State) -> list[Capability]:
        """The capabilities with this verdict."""
        return [name for name in CAPABILITIES if name in self.verdicts and self.verdicts[name].state == state]

    def failure(self) -> str:
        """Why the row cannot be used at all; empty when it can."""
        for name in NEEDED:
            verdict = self.verdicts.get(name)
            if verdict is not None and verdict.state == "wrong":
                return verdict.reason
        return ""

    def disproven(self, family: ModelFamily) -> dict[str, str]:
        """The parts of a layer that can be asked for and that the test does not confirm, with the reason."""
        reasons: dict[str, str] = {}
        for part, name in UNITS.items():
            claimed = READERS[part] in family.projections and (part == "mlp" or family.prunable_heads)
            cut, config = self.verdicts.get(name), self.verdicts.get(CONFIGS[part])
            if claimed and cut is not None and cut.state != "proven" and cut.reason != TOO_FEW:
                reasons[part] = cut.reason
            elif config is not None and config.state == "wrong":
                reasons[part] = config.reason
        beside: dict[str, Capability] = {**EXPERTS, **{name: name for name in SUB_BLOCKS.values()}}
        for what, name in beside.items():
            verdict = self.verdicts.get(name)
            if verdict is not None and verdict.state == "wrong":
                reasons[what] = verdict.reason
        return reasons


def without_disproven(family: ModelFamily, proof: Proof) -> ModelFamily:
    """The row without what the proof says is wrong: projections of a part, or that the config says its width."""
    for part, name in UNITS.items():
        verdict, config = proof.verdicts.get(name), proof.verdicts.get(CONFIGS[part])
        if verdict is not None and verdict.state == "wrong":
            left = {role: path for role, path in family.projections.items() if not role.startswith(f"{part}.")}
            family = replace(family, projections=left)
        if READERS[part] not in family.projections or (config is not None and config.state == "wrong"):
            family = replace(family, mlp_width="") if part == "mlp" else replace(family, prunable_heads=False)
    return family
