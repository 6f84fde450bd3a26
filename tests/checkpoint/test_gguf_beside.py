"""`layout: gguf`: true shapes with a file for llama.cpp beside them, or a refusal before weights are loaded."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import pytest
from gguf_models import TOKENS, ascii_tokenizer

from swm.checkpoint.gguf_beside import FILE
from swm.checkpoint.modelling_file import MODELLING
from swm.errors import SwmError
from swm.gguf.exporting import export_gguf
from swm.plan.reading import read_plan
from swm.plugins.loading import Plugins
from swm.run.pipeline import compress
from swm.run.replay import replay
from swm.testing import tiny_model, tiny_tokenizer

TEXT = {"text": "python-docs", "samples": 2, "seq_len": 16}
EVEN = {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.3}}
UNEVEN = {"width": {"pruner": "magnitude", "units": ["mlp"], "layer_ratio": 0.3, "uniform": False, "layers": [1, 4]}}
BLOCKS = {"depth": {"pruner": "last", "unit": "mlp", "target": {"blocks": 1}}}


def model_folder(folder: Path, kind: str = "llama", **changes: Any) -> str:
    tiny_model(kind, vocab_size=TOKENS, **changes).save_pretrained(folder)
    ascii_tokenizer().save_pretrained(folder)
    return str(folder)


@pytest.mark.parametrize(
    ("stage", "architecture", "code"), [(EVEN, "llama", False), (UNEVEN, "deci", True), (BLOCKS, "deci", True)]
)
def test_the_file_is_that_of_an_export(
    stage: dict[str, Any], architecture: str, code: bool, tmp_path: Path, plugins: Plugins
) -> None:
    out, model = tmp_path / "out", model_folder(tmp_path / "m")
    result = compress(model, [stage], calibration=TEXT, layout="gguf", output=str(out), device="cpu")
    assert (out / MODELLING).is_file() == code
    field: Any = gguf.GGUFReader(out / FILE).get_field("general.architecture")
    assert field.contents() == architecture
    export_gguf(str(out), tmp_path / "again.gguf", plugins.registry)
    assert (out / FILE).read_bytes() == (tmp_path / "again.gguf").read_bytes()
    plan = read_plan(out / "plan.yaml", plugins.registry)
    replay(plan, plugins, str(tmp_path / "replayed"), model=model, layout="gguf", device="cpu")
    assert gguf.GGUFReader(tmp_path / "replayed" / FILE).tensors[3].data.tobytes() == (
        gguf.GGUFReader(out / FILE).tensors[3].data.tobytes()
    )
    assert result.report["verification"]["max_abs_difference"] == 0
    assert FILE in (out / "swm-manifest.json").read_text()


REFUSED: dict[str, tuple[str, dict[str, Any], dict[str, Any], str]] = {
    "another family": (
        "gpt_neox",
        {},
        BLOCKS,
        r"layout: gguf: no GGUF architecture is known for model_type 'gpt_neox'",
    ),
    "uneven where one shape is held": (
        "qwen3",
        {},
        UNEVEN,
        r"'qwen3': layers will differ in width or lack a part, and it holds one shape for all; layout: padded",
    ),
    "a rotary table": (
        "llama",
        {"rope_parameters": {"rope_type": "dynamic", "rope_theta": 1e4, "factor": 2.0}},
        EVEN,
        r"^layout: gguf: .*dynamic",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_what_it_cannot_hold_is_refused_before_weights_are_loaded(
    case: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    kind, changes, stage, message = REFUSED[case]
    model = model_folder(tmp_path / "m", kind, **changes)
    monkeypatch.setattr("swm.loading.models.load_model", None)
    with pytest.raises(SwmError, match=message):
        compress(model, [stage], calibration=TEXT, layout="gguf", output=str(tmp_path / "out"), device="cpu")


def test_a_tokenizer_that_it_cannot_hold_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tiny_model("llama").save_pretrained(tmp_path / "m")
    tiny_tokenizer().save_pretrained(tmp_path / "m")
    monkeypatch.setattr("swm.loading.models.load_model", None)
    with pytest.raises(
        SwmError, match=r"layout: the tokenizer of model 'llama' cannot be written as GGUF: it is a Word"
    ):
        compress(str(tmp_path / "m"), [EVEN], calibration=TEXT, layout="gguf", output=str(tmp_path / "out"))
    # Without an output nothing is written, and no file is asked for.
    monkeypatch.undo()
    compress(str(tmp_path / "m"), [EVEN], calibration=TEXT, layout="gguf", device="cpu")
