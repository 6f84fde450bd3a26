"""Export a result as a program for ONNX Runtime, with the exporters of transformers.

    python examples/export_program.py out/pruned out/program [--trust-remote-code]

A folder with code of its own, as `layout: custom` writes it, needs the option: look at the code before you allow it.
The program reads a text of any length and gives the logits; the layers keep their true shapes. For one program that
fills a cache and one that goes on from it, call `export_for_generation` in place of `export`, without `use_cache`.
"""

import argparse

import torch
from transformers import AutoModelForCausalLM
from transformers.exporters import OnnxConfig, OnnxExporter

parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
parser.add_argument("folder")
parser.add_argument("target")
parser.add_argument("--trust-remote-code", action="store_true", help="let the Python code in the folder run")
given = parser.parse_args()
allowed = given.trust_remote_code
model = AutoModelForCausalLM.from_pretrained(given.folder, trust_remote_code=allowed, dtype=torch.float32).eval()
ids = torch.arange(14).reshape(2, 7)
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True)).save_pretrained(given.target)
