"""Run by tests in a process that sees ONNX Runtime: export folders, and say what the programs say.

    python tests/exported_process.py < '{"tokens": .., "folders": {FOLDER: [PROMPT, ..]}}'

Prints one JSON object in its last line: the new tokens of each prompt by folder, or the error. The exporting is
that of examples/export_program.py; the programs run without transformers.
"""

from __future__ import annotations

import contextlib
import json
import runpy
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

EXAMPLE = str(Path(__file__).resolve().parents[1] / "examples" / "export_program.py")
torch.set_num_threads(1)


def session_of(folder: Path) -> Callable[[dict[str, Any]], Any]:
    """Runs the program of a folder: arrays by name in, logits out."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(folder / "model.onnx", options, providers=["CPUExecutionProvider"])
    names = {one.name for one in session.get_inputs()}
    return lambda inputs: session.run(["logits"], {k: v for k, v in inputs.items() if k in names})[0]


def answer(folder: str, prompts: list[list[int]], tokens: int) -> list[list[int]]:
    """Export and say so many tokens greedily, with nothing kept between them; the new ids of each prompt."""
    program = f"{folder}.onnx"
    # These folders were made by the test itself.
    sys.argv = [EXAMPLE, folder, program, "--trust-remote-code"]
    # What is printed on the way is not the answer.
    with contextlib.redirect_stdout(sys.stderr):
        runpy.run_path(EXAMPLE, run_name="__main__")
    run = session_of(Path(program))
    answers = []
    for prompt in prompts:
        ids = list(prompt)
        for _ in range(tokens):
            given = torch.tensor([ids])
            logits = run({"input_ids": given.numpy(), "attention_mask": torch.ones_like(given).numpy()})
            ids.append(int(logits[0, -1].argmax()))
        answers.append(ids[len(prompt) :])
    return answers


def main() -> None:
    asked = json.load(sys.stdin)
    said: dict[str, Any] = {}
    for folder, prompts in asked["folders"].items():
        try:
            said[folder] = answer(folder, prompts, asked["tokens"])
        except Exception as error:
            said[folder] = f"{type(error).__name__}: {error}"
    sys.stdout.write("\n" + json.dumps(said) + "\n")


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    main()
