"""What of each architecture can go: the real pipeline on the models of the zoo, from recipe to saved folder and replay.

    python tests/family_proof.py      runs all cuts and writes docs/_reference/families.json

A cut works where the saved folder, loaded by a fresh process, equals the model in memory in logits and generated
tokens; where the model equals the original in which the same parts are passed by or set to zero; where it has as many
parameters as the plan leaves; and where the plan, replayed, gives the same bytes. Models of images and text answer an
image prompt as well. Otherwise a cut must be refused with its reason. Anything else is a fault.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from fresh_processes import fresh_processes
from silenced import logits, silence
from transformers import AutoTokenizer, PreTrainedModel
from zoo import CAUSAL, GROUPED, zoo_model
from zoo_multimodal import GROUPED_TOWERS, MULTIMODAL, multimodal_model

from swm.checkpoint.image_prompt import image_prompt
from swm.errors import SwmError
from swm.interfaces.progress import Silent
from swm.loading import models
from swm.model.families import ModelFamily, find_family
from swm.model.quiet import quiet_transformers
from swm.plan.rehearsal import rehearse
from swm.plugins.loading import Plugins, load_plugins
from swm.recipe.building import build_recipe
from swm.run.pipeline import CompressionPipeline
from swm.run.replay import replay
from swm.run.result import RunResult
from swm.testing import tiny_tokenizer

RECORD = Path(__file__).parents[1] / "docs" / "_reference" / "families.json"
TEXT = "It was a dark and stormy night: the rain fell in torrents, except at occasional intervals (so they say).\n" * 6
CALIBRATION = {"text": {"name": "list", "texts": [TEXT]}, "samples": 4, "seq_len": 24}
SAME = 1e-5
ALL = (*CAUSAL, *MULTIMODAL)


def model_of(name: str) -> PreTrainedModel:
    """A model of the zoo, or one of images and text; `NAME, grouped` has layers of one kind next to each other."""
    return (multimodal_model if is_tower(name) else zoo_model)(name)


def is_tower(name: str) -> bool:
    """Whether swm cuts the text tower of a model of images and text."""
    return name.removesuffix(", grouped") in MULTIMODAL


@dataclass(frozen=True)
class Cut:
    """A column of the table: the stage that removes the part, and the layouts to try, the first that can hold it."""

    stage: Mapping[str, Any]
    # Whether the result is the original with parts of it passed by or set to zero.
    silences: bool = True
    layouts: Sequence[str] = ("native",)


def _width(unit: str, share: float) -> Cut:
    stage = {"width": {"pruner": "wanda", "units": [unit], "layer_ratio": share}}
    return Cut(stage, layouts=("native", "custom"))


ANY_WINDOW = {"name": "sliding-window", "protect_first": 0, "protect_last": 0}


def _experts(unit: str, pruner: str) -> Cut:
    # That a cut equals the original with the same silent, tests/model/test_zoo_experts.py and its neighbour show.
    stage = {"width": {"pruner": pruner, "units": [unit], "layer_ratio": 0.5}}
    return Cut(stage, silences=False, layouts=("native", "custom"))


def _block(unit: str) -> Cut:
    # That a cut equals the original with the sub-block at zero, tests/model/test_zoo_blocks.py shows.
    stage = {"depth": {"pruner": "block-influence", "unit": unit, "target": {"blocks": 1}}}
    return Cut(stage, silences=False, layouts=("native", "custom"))


CUTS: Mapping[str, Cut] = {
    "last layer": Cut({"depth": {"pruner": "last", "merger": "delete", "target": {"layers": 1}}}),
    "any layer": Cut({"depth": {"pruner": "block-influence", "merger": "delete", "target": {"layers": 1}}}),
    "window": Cut({"depth": {"pruner": ANY_WINDOW, "merger": "consolidate", "target": {"layers": 1}}}, silences=False),
    "mlp": _width("mlp", 0.25),
    "kv heads": _width("attention", 0.5),
    "query heads": _width("queries", 0.5),
    "experts": _experts("experts", "reap"),
    "expert channels": _experts("expert_channels", "magnitude"),
    "attention block": _block("attention"),
    "mlp block": _block("mlp"),
}


class FaultError(AssertionError):
    """A cut that neither works nor is refused."""


@dataclass(frozen=True)
class Proof:
    """Tries the cuts of one model of the zoo, whose folder is made in `place`."""

    name: str
    place: Path
    plugins: Plugins

    @property
    def folder(self) -> Path:
        """The saved model with its tokenizer."""
        folder = self.place / self.name.replace(", ", "-")
        if not folder.exists():
            model_of(self.name).save_pretrained(folder)
            tiny_tokenizer().save_pretrained(folder)
            # For some model types transformers reads a general tokenizer as one of their own class; name that.
            AutoTokenizer.from_pretrained(folder).save_pretrained(folder)
        return folder

    def family(self) -> ModelFamily:
        return find_family(model_of(self.name).config, self.plugins.registry.families)

    def outcome(self, cut: Cut) -> dict[str, Any]:
        """What the record holds of a cut: the parameters that are left, or why it is refused.

        Raises FaultError for whatever is neither.
        """
        outcome: dict[str, Any] = {}
        for layout in cut.layouts:
            # The last layout holds the most, so that its reason is the model's own.
            outcome = self._attempt(cut, layout)
            if "refused" not in outcome:
                break
        return outcome

    def _attempt(self, cut: Cut, layout: str) -> dict[str, Any]:
        output, again = (self.place / f"{self.folder.name}, {kind}" for kind in ("cut", "replayed"))
        recipe = {
            "model": str(self.folder),
            "dtype": "float32",
            "device": "cpu",
            "calibration": CALIBRATION,
            "stages": [cut.stage],
            "layout": layout,
            "output": str(output),
        }
        loaded: list[bool] = []
        pipeline = CompressionPipeline(build_recipe(recipe, self.plugins), self.plugins, overwrite=True)
        load = pipeline.load
        pipeline.load = lambda ready: (loaded.append(True), load(ready))[1]  # type: ignore[method-assign]
        try:
            result = pipeline.run()
        except SwmError as error:
            if "\n" in error.message or error.message.startswith("the saved"):
                raise FaultError(f"{self.name}: {error}") from error
            return self._refusal(error, bool(loaded))
        except Exception as error:
            raise FaultError(f"{self.name}: {type(error).__name__}: {error}") from error
        self._check(cut, result, output)
        try:
            replay(result.plan, self.plugins, str(again), overwrite=True, layout=layout, device="cpu")
        except Exception as error:
            raise FaultError(f"{self.name}: the plan, replayed: {type(error).__name__}: {error}") from error
        if digests(again) != digests(output):
            raise FaultError(f"{self.name}: the plan, replayed, gives other bytes")
        parameters = result.report["compressed"]["parameters"]
        return {"parameters": parameters, **({} if layout == "native" else {"layout": layout})}

    def _refusal(self, error: SwmError, loaded: bool) -> dict[str, Any]:
        # Which other rows there are is no reason.
        reason = error.message.replace(f"{self.place}/", "").partition("; known: ")[0]
        return {"refused": reason, **({"after loading": True} if loaded else {})}

    def _check(self, cut: Cut, result: RunResult, output: Path) -> None:
        family, kept = self.family(), sum(p.numel() for p in result.model.parameters())
        source = models.locate(str(self.folder), self.plugins.registry, Silent())
        empty = models.empty_view(models.load_config(source), self.plugins.registry.families)
        if rehearse(result.plan, empty) and empty.parameters() != kept:
            raise FaultError(f"{self.name}: {kept} parameters, the plan leaves {empty.parameters()}")
        if not kept == result.report["compressed"]["parameters"] < result.report["model"]["parameters"]:
            raise FaultError(f"{self.name}: the report tells of other parameters than the model's {kept}")
        if not result.report["verification"]["generated_equal"]:
            raise FaultError(f"{self.name}: not verified")
        if is_tower(self.name):
            said = result.report["verification"]
            if not said.get("tensors_untouched") or not said.get("image_difference", 1.0) <= said["tolerance"]:
                raise FaultError(f"{self.name}: not compared on an image, or beside the text tower")
        if cut.silences:
            original = model_of(self.name)
            silence(original, family, result.plan)
            pairs = [(logits(result.model), logits(original))]
            if is_tower(self.name):
                prompt = image_prompt(original)
                with torch.no_grad():
                    seen, wanted = (model(**prompt, use_cache=False).logits for model in (result.model, original))
                pairs.append((seen, wanted))
            for given, silenced in pairs:
                if not torch.allclose(given, silenced, rtol=SAME, atol=SAME):
                    difference = float((given - silenced).abs().max())
                    raise FaultError(f"{self.name}: {difference:g} from the original with its parts silenced")


def digests(folder: Path) -> dict[str, str]:
    """The digests of the weights, the config and the code of a saved folder."""
    files = [*folder.glob("*.safetensors"), folder / "config.json", *folder.glob("*.py")]
    return {file.name: hashlib.sha256(file.read_bytes()).hexdigest() for file in sorted(files)}


def record(name: str, place: Path, plugins: Plugins, columns: Sequence[str] = tuple(CUTS)) -> dict[str, Any]:
    """The entry of a model of the zoo: its type, its parameters, and the outcome of each cut. Raises FaultError."""
    model = model_of(name)
    outcomes = {}
    for column in columns:
        # Four layers of alternating kinds have no two of a kind next to each other.
        grouped = column == "window" and name in (*GROUPED, *GROUPED_TOWERS)
        proof = Proof(f"{name}, grouped" if grouped else name, place, plugins)
        outcomes[column] = proof.outcome(CUTS[column])
    text_type = {"text_type": model.config.get_text_config().model_type} if is_tower(name) else {}
    return {
        "model_type": model.config.model_type,
        **text_type,
        "parameters": sum(p.numel() for p in model.parameters()),
        "cuts": outcomes,
    }


def as_text(entries: Mapping[str, Any]) -> str:
    """The record as JSON, a model in each line."""
    lines = [f"{json.dumps(name)}: {json.dumps(entry, ensure_ascii=False)}" for name, entry in entries.items()]
    return "{\n" + ",\n".join(lines) + "\n}\n"


def main() -> int:
    """Run the cuts and write the record. Returns the number of faults."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("names", nargs="*", help="models of the zoo; all where none is named")
    parser.add_argument("--columns", nargs="+", choices=CUTS, default=list(CUTS), help="the cuts to run")
    parser.add_argument("--refused", action="store_true", help="only those that the record has not, or has as refused")
    options = parser.parse_args()
    torch.set_num_threads(1)
    old = json.loads(RECORD.read_text(encoding="utf-8")) if RECORD.exists() else {}
    entries, faults, plugins = {name: old[name] for name in ALL if name in old}, 0, load_plugins()
    with tempfile.TemporaryDirectory() as place, fresh_processes(), quiet_transformers():
        for name in options.names or ALL:
            entry = record(name, Path(place), plugins, ())
            entry["cuts"] = {column: cut for column, cut in old.get(name, entry)["cuts"].items() if column in CUTS}
            known = {column for column, cut in entry["cuts"].items() if "parameters" in cut and options.refused}
            for column in sorted(set(options.columns) - known, key=list(CUTS).index):
                started = time.perf_counter()
                entry["cuts"].pop(column, None)
                try:
                    entry["cuts"] |= record(name, Path(place), plugins, [column])["cuts"]
                    said = entry["cuts"][column]
                except FaultError as fault:
                    faults, said = faults + 1, {"fails": str(fault).partition(": ")[2]}
                    entry["cuts"][column] = said
                print(f"{name} | {column} | {time.perf_counter() - started:.1f} s | {said}", flush=True)
            entry["cuts"] = {column: entry["cuts"][column] for column in CUTS if column in entry["cuts"]}
            entries[name] = entry
            in_order = {name: entries[name] for name in ALL if name in entries}
            RECORD.write_text(as_text(in_order), encoding="utf-8")
    return faults


if __name__ == "__main__":
    sys.exit(main())
