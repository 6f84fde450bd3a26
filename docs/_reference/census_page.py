"""The part of the page of model families on all model types of transformers: what `census.json` records.

`tests/family_census.py` writes the record.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

CENSUS = Path(__file__).with_name("census.json")
# Columns by what the test of a row calls it.
LABELS = {
    "fewer layers": "layers",
    "mlp": "MLP channels",
    "heads": "heads",
    "experts": "experts",
    "expert channels": "expert channels",
    "attention block": "attentions",
    "mlp block": "MLPs",
}
# What says of a cut whether a config of the class holds it, by the cut.
CONFIGS = {"mlp": "mlp config", "heads": "heads config"}
ENCODERS = ("it is an encoder-decoder model", "it is an encoder:")
SECTION = """
## All causal model types of transformers

transformers {version} has {types} model types in its causal mapping. By their default config, {others} are encoders or
encoder-decoders, which are refused: {names}.
swm has rows of its own for {own} of the other {decoders}, and tries to derive one for each that has none.

- With the rows of swm, and automatic ones where it has none, the test of a row proves {with_rows} of {decoders}.
- With automatic rows alone, the rows of swm left aside, it proves {alone}.

The table is generated too, by `tests/family_census.py`. The test cuts a small random model of each type in memory, and
compares it with the model in which the same is silent; nothing is saved, as in the runs above. The small model is that
of the tests, or made of the default config of the type, which for some types describes no model. **yes, custom** means
that no field of the config says the width, so `layout: custom` holds the result. **no** means that the row or the class
does not say enough, or that the test disproved it; `swm doctor MODEL` gives the reason. **–** means: the model has no
experts.
"""


def section(census: Mapping[str, Any], first: int) -> list[str]:
    """The lines of the part; its reasons are numbered from `first` on."""
    types = census["types"]
    others = [name for name, entry in types.items() if _is_encoder(entry)]
    decoders = {name: entry for name, entry in types.items() if name not in others}
    text = SECTION.format(
        version=census["transformers"],
        types=len(types),
        others=len(others),
        names=", ".join(f"`{name}`" for name in others),
        own=sum("swm" in entry for entry in decoders.values()),
        decoders=len(decoders),
        with_rows=_counts([_used(entry) for entry in decoders.values()]),
        alone=_counts([entry["automatic"] for entry in decoders.values()]),
    )
    reasons: dict[str, int] = {}
    rows = [_row(name, entry, reasons, first) for name, entry in decoders.items()]
    head = ["model type", "row", *LABELS.values(), "automatic row alone"]
    table = [" | ".join(["", *cells, ""]).strip() for cells in (head, ["---"] * len(head), *rows)]
    return [text, *table, "", *(f"{number}. {reason}" for reason, number in reasons.items()), ""]


def layers_of(census: Mapping[str, Any]) -> tuple[int, int]:
    """Of how many decoders layers can go, and how many there are."""
    decoders = [entry for entry in census["types"].values() if not _is_encoder(entry)]
    return sum(_proven(_used(entry), "fewer layers") for entry in decoders), len(decoders)


def _is_encoder(entry: Mapping[str, Any]) -> bool:
    return "swm" not in entry and entry["automatic"].get("refused", "").startswith(ENCODERS)


def _used(entry: Mapping[str, Any]) -> Mapping[str, Any]:
    """What is said with the row that swm takes: its own where it has one."""
    used: Mapping[str, Any] = entry.get("swm", entry["automatic"])
    return used


def _counts(outcomes: Sequence[Mapping[str, Any]]) -> str:
    each = [f"{label} of {sum(_proven(said, name) for said in outcomes)}" for name, label in LABELS.items()]
    return f"{', '.join(each[:-1])}, and {each[-1]}"


def _proven(said: Mapping[str, Any], name: str) -> bool:
    return str(said.get("proof", {}).get(name, "")).startswith("proven")


def _row(name: str, entry: Mapping[str, Any], reasons: dict[str, int], first: int) -> list[str]:
    said, alone = _used(entry), entry["automatic"]
    row = "swm" if "swm" in entry else "automatic"
    if "proof" not in said:
        return [f"`{name}`", f"none{_note(name, said, reasons, first)}", *["no"] * len(LABELS), ""]
    cells = [_cell(said["proof"], label) for label in LABELS]
    if row == "automatic":
        return [f"`{name}`", row, *cells, ""]
    if "proof" not in alone:
        return [f"`{name}`", row, *cells, f"none{_note(name, alone, reasons, first)}"]
    less = [label for key, label in LABELS.items() if _proven(said, key) and not _proven(alone, key)]
    more = [label for key, label in LABELS.items() if _proven(alone, key) and not _proven(said, key)]
    differs = [f"no {label}" for label in less] + [f"also {label}" for label in more]
    return [f"`{name}`", row, *cells, ", ".join(differs) or "the same"]


def _cell(proof: Mapping[str, str], name: str) -> str:
    if name not in proof and name in ("experts", "expert channels"):
        return "–"
    if not proof.get(name, "").startswith("proven"):
        return "no"
    config = proof.get(CONFIGS.get(name, ""), "proven")
    custom = not config.startswith("proven") or "layout: custom" in proof[name]
    return "yes, custom" if custom else "yes"


def _note(name: str, said: Mapping[str, Any], reasons: dict[str, int], first: int) -> str:
    reason = " ".join((said.get("refused") or said["fails"]).replace(f"'{name}'", "…").split()).replace("|", "\\|")
    return f"<sup>{reasons.setdefault(reason, first + len(reasons))}</sup>"


def census() -> dict[str, Any]:
    """The record."""
    record: dict[str, Any] = json.loads(CENSUS.read_text(encoding="utf-8"))
    return record
