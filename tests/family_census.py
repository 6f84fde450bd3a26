"""What swm makes of every model type that transformers calls a causal language model: its own rows, and automatic ones.

    python tests/family_census.py [TYPE ...]     looks at them and writes docs/_reference/census.json

The model of each type is that of the zoo, or that of its default config, made small as before any run. Nothing is cut
here beyond what the test of a family row cuts; tests/family_proof.py does whole runs. Each type has a process of its
own, for so many seconds and so much memory.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import resource
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
import transformers
from transformers import AutoConfig
from transformers.models.auto.modeling_auto import MODEL_FOR_CAUSAL_LM_MAPPING_NAMES
from zoo import CAUSAL, zoo_model

from swm.derivation.known_model import KnownModel, known_model
from swm.errors import SwmError, brief
from swm.files.writing import write_text
from swm.plugins.loading import load_plugins
from swm.plugins.registry import Registry

RECORD = Path(__file__).parents[1] / "docs" / "_reference" / "census.json"
TYPES = tuple(MODEL_FOR_CAUSAL_LM_MAPPING_NAMES)
SECONDS, MEMORY = 180, 10 * 2**30
LATE = f"not done in {SECONDS} s"


def entry(model_type: str, keep: Callable[[dict[str, Any]], object] = dict) -> dict[str, Any]:
    """What is known of a type: with the rows of swm, where there is one, and with an automatic row alone.

    `keep` is called with what is known first.
    """
    try:
        config = zoo_model(model_type).config if model_type in CAUSAL else AutoConfig.for_model(model_type)
    except Exception as error:  # a class may need what no default says
        return {"automatic": {"refused": f"its default config: {type(error).__name__}: {brief(error)}"}}
    plugins, result = load_plugins(), dict[str, Any]()
    if any(model_type in row.model_types for row in plugins.registry.families):
        result["swm"] = outcome(lambda: known_model(config, plugins.registry))
        keep({**result, "automatic": {"fails": LATE}})
    return {**result, "automatic": outcome(lambda: known_model(config, Registry()))}


def outcome(find: Callable[[], KnownModel]) -> dict[str, Any]:
    """The verdicts on a row, or why there is none."""
    try:
        known = find()
    except SwmError as error:
        return {
            "refused": error.message.partition("; known: ")[0].partition(", and none can be derived: ")[2]
            or error.message
        }
    except Exception as error:
        return {"fails": f"{type(error).__name__}: {brief(error)}"}
    if not known.proof.verdicts:
        return {"refused": "; ".join(known.remarks)}
    return {"proof": {name: str(verdict) for name, verdict in known.proof.verdicts.items()}}


def look(model_type: str, file: str) -> None:
    """In a process of its own: write the entry of a type."""
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    warnings.simplefilter("ignore")
    transformers.logging.set_verbosity_error()

    def keep(known: dict[str, Any]) -> None:
        write_text(Path(file), json.dumps(known))

    keep(entry(model_type, keep))


def main() -> None:
    """Look at the types and write the record."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("types", nargs="*", help="model types; all where none is named")
    options = parser.parse_args()
    record = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    entries = record.get("types", {})
    fork = multiprocessing.get_context("fork")
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as place:
        os.environ["SWM_CACHE"] = place
        # What every process needs is imported once.
        entry("gpt2")
        for model_type in options.types or TYPES:
            file, started = Path(place) / "entry.json", time.perf_counter()
            file.unlink(missing_ok=True)
            process = fork.Process(target=look, args=(model_type, str(file)))
            process.start()
            process.join(SECONDS)
            ended = process.exitcode is not None
            if not ended:
                process.kill()
                process.join()
            why = f"its process ended with {process.exitcode}" if ended else LATE
            said = json.loads(file.read_text()) if file.exists() else {"automatic": {"fails": why}}
            print(f"{model_type} | {time.perf_counter() - started:.1f} s | {said}", flush=True)
            entries[model_type] = said
            in_order = {name: entries[name] for name in TYPES if name in entries}
            RECORD.write_text(as_text({"transformers": transformers.__version__, "types": in_order}), encoding="utf-8")


def as_text(record: dict[str, Any]) -> str:
    """The record as JSON, a type in each line."""
    lines = [f"{json.dumps(name)}: {json.dumps(one, ensure_ascii=False)}" for name, one in record["types"].items()]
    head = f'{{\n"transformers": {json.dumps(record["transformers"])},\n"types": {{\n'
    return head + ",\n".join(lines) + "\n}\n}\n"


if __name__ == "__main__":
    sys.exit(main())
