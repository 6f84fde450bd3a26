"""Export a result as a program for ONNX Runtime, with the exporters of transformers.

    python examples/export_program.py out/pruned out/program

The program reads a text of any length and gives the logits; the layers keep their true shapes. For one program that
fills a cache and one that goes on from it, call `export_for_generation` in place of `export`, without `use_cache`.
"""

import sys

import torch
from transformers import AutoModelForCausalLM
from transformers.exporters import OnnxConfig, OnnxExporter

folder, target = sys.argv[1:]
# Look at the code in the folder before you allow it.
model = AutoModelForCausalLM.from_pretrained(folder, trust_remote_code=True, dtype=torch.float32).eval()
ids = torch.arange(14).reshape(2, 7)
inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "use_cache": False}
OnnxExporter().export(model, inputs, OnnxConfig(dynamic=True)).save_pretrained(target)
