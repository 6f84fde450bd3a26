"""How the cost of the search grows with layers, width and calibration text, on random models.

    python benchmarks/scaling.py

Each row is `depth_engine.py` on another model: the engine, its search by bisection, the same without caches, and the
plain reference, each in a process of its own, one after the other. Rows are kept in benchmarks/rows/.
"""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from depth_engine import SIDES, run_side, shown
from results import Rows, markdown_table, write_section

CASES = {
    "12 layers, width 256": ("random:12x256", 10, 64),
    "24 layers, width 256": ("random:24x256", 10, 64),
    "48 layers, width 256": ("random:48x256", 10, 64),
    "12 layers, width 512": ("random:12x512", 10, 64),
    "24 layers, width 512": ("random:24x512", 10, 64),
    "48 layers, width 512": ("random:48x512", 10, 64),
    "24 layers, width 256, 4 times the text": ("random:24x256", 40, 64),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threshold", type=float, default=0.98)
    parser.add_argument("--out", type=Path, default=Path(__file__).with_name("rows"))
    parser.add_argument("--known-only", action="store_true", help="write the table from the rows that are there")
    options = parser.parse_args()
    rows = Rows(options.out / "scaling.jsonl", options.known_only)
    lines = []
    for name, (model, samples, seq_len) in CASES.items():
        arguments = ["--model", model, "--samples", str(samples), "--seq-len", str(seq_len)]
        arguments += ["--threshold", str(options.threshold)]
        found = rows.measure(name, lambda given=arguments: measure(given))
        lines.append([name, *cells(found)])
    columns = ["model", *(f"{side}, s" for side in SIDES), "layer-forwards", "peak memory / floor", "windows"]
    write_section(
        "scaling",
        "## How the search scales\n\n"
        f"Random Llamas, 10 x 64 random tokens, threshold {options.threshold}, flattened cosine, quirks: released, "
        "float32. Each side in a process of its own; in brackets: times faster than the reference. Layer-forwards of "
        "the engine and of the reference; peak memory of the engine over that of the model and one batch.\n"
        f"{rows.machines()}\n\nCommand: `python benchmarks/scaling.py`\n\n{markdown_table(columns, lines)}",
    )


def measure(arguments: list[str]) -> dict[str, Any]:
    return {"floor": run_side("load", arguments)["peak"], **{side: run_side(side, arguments) for side in SIDES}}


def cells(found: dict[str, Any]) -> list[str]:
    if "missing" in found:
        return ["not measured"] * (len(SIDES) + 3)
    engine, reference = found["swm"], found["plain reference"]
    slow = reference["seconds"]
    times = [f"{found[side]['seconds']:.1f} ({slow / found[side]['seconds']:.1f})" for side in SIDES]
    same = all(found[side]["windows"] == reference["windows"] for side in SIDES)
    return [
        *times,
        f"{engine['layer_forwards']} of {reference['layer_forwards']}",
        f"{engine['peak'] / found['floor']:.2f}",
        "the same" if same else "; ".join(f"{side}: {shown(found[side]['windows'])}" for side in SIDES),
    ]


if __name__ == "__main__":
    main()
