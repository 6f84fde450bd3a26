"""The page of model families: a table of what `families.json` records, which `tests/family_proof.py` writes.

python docs/_reference/families_page.py      writes docs/reference/families.md
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from census_page import census, section

RECORD = Path(__file__).with_name("families.json")
PAGE = Path(__file__).parents[1] / "reference" / "families.md"
LABELS = {
    "any layer": "layers",
    "window": "windows",
    "mlp": "MLP channels",
    "kv heads": "KV heads",
    "query heads": "query heads",
    "experts": "experts",
    "expert channels": "expert channels",
    "attention block": "attentions",
    "mlp block": "MLPs",
}
# What refusals say where a model has no such parts; query heads of their own go with their KV heads.
NO_SUCH_PARTS = ("has no experts in any layer", "every query head has a KV head of its own")
INTRODUCTION = """# Model families

This table is generated: it says of small random models of {models} architectures ({types} model types) which parts swm
can remove. {counts}

- **layers**: `block-influence` with `delete` removes a layer. **windows**: Sliding-Window Merging merges layers with
  `consolidate`; a window whose layers are of different kinds is passed over in favour of one of a kind.
- **MLP channels**, **KV heads**, **query heads**: `wanda` removes a part of these units of every layer that has some.
  **experts**: `reap` removes half of them; **expert channels**: `magnitude` removes half of each expert's.
- **attentions**, **MLPs**: `block-influence` removes one whole attention or MLP (`unit: attention`, `unit: mlp`).

**yes** means: the saved folder, loaded in a fresh process, gives the same logits and generates the same tokens as the
model in memory; its parameters are as many as the plan leaves; and the replayed plan gives the same bytes. Where
layers, channels or heads are removed, the model equals the original in which they are passed by or set to zero, to
1e-5; a norm over all channels of a part is then one over those that stay. For experts and sub-blocks other tests
compare models in memory. **yes, custom** means: only with `layout: custom`. **no** means: refused, with the reason
below the table; where that is about the saved model, the check after saving did not pass, and nothing was left.
**–** means: the model has no such parts.

`swm doctor MODEL` says the same of a model of your own. A plugin [adds a family](../tutorials/family.md).
"""
TOWERS = """
## Models of images and text

Of these the text model is cut. {counts}

**yes** means the same as above, and that the saved model answers an image prompt as the model in memory does, which
answers it as the original with layers, channels or heads silent. All tensors outside of the text model are those of the
original, byte for byte.
"""


def page(record: Mapping[str, Any], census: Mapping[str, Any]) -> str:
    """The page for the record of the runs, and that of all model types of transformers."""
    texts = {name: entry for name, entry in record.items() if "text_type" not in entry}
    towers = {name: entry for name, entry in record.items() if "text_type" in entry}
    reasons: dict[str, int] = {}
    models, types = len(texts), len({entry["model_type"] for entry in texts.values()})
    introduction = INTRODUCTION.format(models=models, types=types, counts=counts(texts))
    tables = [introduction, *_table(texts, reasons), TOWERS.format(counts=counts(towers)), *_table(towers, reasons)]
    notes = [f"{number}. {reason}" for reason, number in reasons.items()]
    return "\n".join([*tables, "", "## Reasons", "", *notes, *section(census, len(reasons) + 1)])


def counts(record: Mapping[str, Any]) -> str:
    """How many of the models each column works for, in a sentence."""
    works = [
        f"{label} of {sum('parameters' in entry['cuts'].get(column, {}) for entry in record.values())}"
        for column, label in LABELS.items()
    ]
    return f"Of the {len(record)}, it removes {', '.join(works[:-1])}, and {works[-1]}."


def _table(record: Mapping[str, Any], reasons: dict[str, int]) -> list[str]:
    rows = [_row(name, entry, reasons) for name, entry in record.items()]
    head = ["model type", *LABELS.values()]
    return [" | ".join(["", *cells, ""]).strip() for cells in (head, ["---"] * len(head), *rows)]


def _row(name: str, entry: Mapping[str, Any], reasons: dict[str, int]) -> list[str]:
    text = f" ({entry['text_type']})" if "text_type" in entry else ""
    return [f"`{name}`{text}", *(_cell(name, entry, column, reasons) for column in LABELS)]


def _cell(name: str, entry: Mapping[str, Any], column: str, reasons: dict[str, int]) -> str:
    outcome = entry["cuts"][column]
    if "parameters" in outcome:
        return f"yes, {outcome['layout']}" if "layout" in outcome else "yes"
    reason = outcome.get("refused") or outcome["fails"]
    if any(sign in reason for sign in NO_SUCH_PARTS):
        return "–"
    for name in (entry["model_type"], entry.get("text_type")):
        reason = reason.replace(f"'{name}'", "…")
    reason = reason.replace("|", "\\|")
    return f"no<sup>{reasons.setdefault(reason, len(reasons) + 1)}</sup>"


def main() -> None:
    PAGE.write_text(page(json.loads(RECORD.read_text(encoding="utf-8")), census()), encoding="utf-8")


if __name__ == "__main__":
    main()
