"""Run in a fresh process: load a saved folder as any user would and compare it with what was in memory.

    python -P swm/checkpoint/reload.py FOLDER PROBE.safetensors

The probe holds token ids and, from the model in memory, their logits and greedily generated tokens. Prints one JSON
object. It imports nothing of swm, so that only transformers decides how the folder is read; where the weights do not
fit into memory, it runs two files of swm that put them into files.
"""

from __future__ import annotations

import json
import os
import runpy
import sys
import tempfile
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

TEXT = "Hello, world!\n\n\tÜber 1234 naïve  東京 🙂 e\u0301 <s></s><|endoftext|><|im_start|>[INST]\r\n x"
IDS = "ids of a text"
MESSAGES = (("user", "Hi."), ("assistant", "Hello."), ("user", "Why?"))
VOCABULARIES = ("tokenizer.json", "tokenizer_config.json", "tekken.json", "*.model", "vocab.*", "*.tiktoken")
# So many logits are compared at once.
NUMBERS = 2**20
# Smaller weights stay in memory; so much stays free on the disk.
SMALL, SPARE = 2**20, 2**28
PROCESSORS = ("processor_config.json", "preprocessor_config.json", "video_preprocessor_config.json")


def main(folder: str, probe_file: str, trust_remote_code: bool) -> dict[str, object]:
    """Load, run, generate, compare."""
    import torch
    import transformers
    from safetensors import safe_open
    from transformers.utils import logging

    logging.set_verbosity_error()
    logging.disable_progress_bar()
    with safe_open(probe_file, "pt") as stream:  # type: ignore[no-untyped-call,unused-ignore]
        metadata = stream.metadata()
        ids, logits, continued = (stream.get_tensor(key) for key in ("ids", "logits", "continued"))
        image = {key: stream.get_tensor(key) for key in list(stream.keys()) if key.startswith("image")}
    torch.set_num_threads(int(metadata["threads"]))
    torch.set_float32_matmul_precision(metadata["matmul_precision"])
    with kept_in_files(metadata["scratch"], int(metadata["room"])) if "scratch" in metadata else nullcontext():
        # The auto class that knows models of this kind, of text alone or of images too.
        model, info = getattr(transformers, metadata["class"]).from_pretrained(
            folder, dtype="auto", trust_remote_code=trust_remote_code, use_safetensors=True, output_loading_info=True
        )
    model = model.to(metadata["device"]).eval()
    ids = ids.to(model.device)
    with torch.no_grad():
        difference = largest_difference(model(input_ids=ids, use_cache=False).logits, logits)
        tokens = generate(model, ids[:1], max_new_tokens=continued.shape[1] - ids.shape[1]).cpu()
        seen = {"image_difference": _image_difference(model, image)} if image else {}
    return {
        **seen,
        "max_abs_difference": difference,
        "generated_equal": bool(tokens.shape == continued.shape and torch.equal(tokens, continued)),
        "parameters": sum(p.numel() for p in model.parameters()),
        "missing_keys": sorted(info["missing_keys"]),
        "unexpected_keys": sorted(info["unexpected_keys"]),
        "class": type(model).__name__,
        "rest": {
            "generation": generation_facts(folder),
            "tokenizer": tokenizer_facts(folder, trust_remote_code),
            "processor": _processor(folder, trust_remote_code),
            "code": _code(folder) if trust_remote_code else {},
        },
    }


class _Files:
    """Keeps `room` bytes of weights that transformers makes anew, as it stacks experts, in memory; others in files."""

    def __init__(self, scratch: str, room: int, lies_in_file: Callable[[Any], bool]) -> None:
        self._scratch, self._room, self._lies_in_file = scratch, room, lies_in_file

    def keep(self, tensor: Any) -> Any:
        if tensor.nbytes < SMALL or self._lies_in_file(tensor):
            return tensor
        if tensor.nbytes > self._room:
            return self._copied(tensor)
        self._room -= tensor.nbytes
        return tensor

    def _copied(self, tensor: Any) -> Any:
        """The tensor in a file whose name is gone at once, and which is gone with this process."""
        import torch

        free = os.statvfs(self._scratch)
        if tensor.nbytes + SPARE > free.f_bavail * free.f_frsize:
            raise OSError(
                f"{self._scratch} has too little space for weights that do not fit into memory; set SWM_CACHE to a "
                "folder on a larger disk or raise memory"
            )
        with tempfile.NamedTemporaryFile(dir=self._scratch) as file:
            file.truncate(tensor.nbytes)
            storage: Any = torch.UntypedStorage.from_file(file.name, shared=True, nbytes=tensor.nbytes)
        empty: Any = torch.empty(0, dtype=tensor.dtype)
        return empty.set_(storage, 0, tensor.shape).copy_(tensor)


def kept_in_files(scratch: str, room: int) -> AbstractContextManager[None]:
    """Inside the block no more than `room` bytes of weights are in memory that the model's files do not map."""
    swm = Path(__file__).parents[1]
    process = runpy.run_path(str(swm / "memory" / "process.py"))
    process["give_freed_memory_back"]()
    files = _Files(scratch, room, process["lies_in_file"])
    kept_by: Callable[[_Files], AbstractContextManager[None]]
    kept_by = runpy.run_path(str(swm / "loading" / "streaming.py"))["kept_by"]
    return kept_by(files)


def _image_difference(model: Any, image: dict[str, Any]) -> float:
    """How far the logits of the image prompt are from those of the model in memory."""
    logits = image.pop("image_logits")
    inputs = {key.removeprefix("image."): value.to(model.device) for key, value in image.items()}
    return largest_difference(model(**inputs, use_cache=False).logits, logits)


def largest_difference(some: Any, others: Any) -> float:
    """The largest difference of logits `[samples, seq, vocabulary]`, in float32; NaN where one of them is NaN.

    `some` may be of any type and on any device. Of all of them at once, no copy is made.
    """
    import torch

    tokens = max(1, NUMBERS // some.shape[-1])
    largest = [
        (one[i : i + tokens].float().cpu() - other[i : i + tokens]).abs().max()
        for one, other in zip(some, others, strict=True)
        for i in range(0, len(one), tokens)
    ]
    return float(torch.stack(largest).max())


def tokenizer_facts(folder: str, trust_remote_code: bool) -> dict[str, Any] | None:
    """What the tokenizer of a folder gives for a text and a conversation; None where there is none."""
    from transformers import AutoTokenizer

    if not any(file for pattern in VOCABULARIES for file in Path(folder).glob(pattern)):
        return None
    try:
        tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        return {"error": f"{type(error).__name__}: {error}"}
    return facts_of(tokenizer)


def facts_of(tokenizer: Any) -> dict[str, Any]:
    """What a tokenizer gives for a text and a conversation."""
    added = sorted(tokenizer.get_added_vocab())
    messages = [{"role": role, "content": content} for role, content in MESSAGES]
    # A template may tell the day.
    render = {"tokenize": False, "add_generation_prompt": True, "date_string": "01 Jan 2026"}
    return {
        IDS: _tried(lambda: tokenizer(TEXT + "".join(added))["input_ids"]),
        "special tokens": {key: str(value) for key, value in sorted(tokenizer.special_tokens_map.items())},
        "chat templates": tokenizer.chat_template,
        "a conversation": _tried(lambda: tokenizer.apply_chat_template(messages, **render))
        if tokenizer.chat_template
        else None,
    }


def _tried(call: Callable[[], Any]) -> Any:
    """What a call gives; where it fails, how, for then the other tokenizer must fail too."""
    try:
        return call()
    except Exception as error:
        return type(error).__name__


def generation_values(config: Any) -> dict[str, Any]:
    """A generation config as it comes back from JSON, without what tells who wrote it."""
    values = json.loads(json.dumps(config.to_dict(), default=str))
    return {key: value for key, value in values.items() if key not in ("transformers_version", "_from_model_config")}


def generation_facts(folder: str) -> dict[str, Any] | None:
    """The generation config of a saved folder, as `generation_values` gives it; None where there is none."""
    from transformers import GenerationConfig

    if not (Path(folder) / "generation_config.json").is_file():
        return None
    return generation_values(GenerationConfig.from_pretrained(folder))


def _processor(folder: str, trust_remote_code: bool) -> str:
    """Why the processor cannot be loaded; empty when it can or there is none."""
    from transformers import AutoProcessor

    if not any((Path(folder) / name).is_file() for name in PROCESSORS):
        return ""
    try:
        AutoProcessor.from_pretrained(folder, trust_remote_code=trust_remote_code)
    except Exception as error:
        return f"{type(error).__name__}: {str(error).strip().splitlines()[0] if str(error).strip() else ''}"
    return ""


def _code(folder: str) -> dict[str, list[str]]:
    """The entries of `auto_map` whose classes cannot be loaded, by file."""
    from transformers.dynamic_module_utils import get_class_from_dynamic_module

    failed: dict[str, list[str]] = {}
    for file in Path(folder).glob("*config.json"):
        for key, value in (json.loads(file.read_text(encoding="utf-8")).get("auto_map") or {}).items():
            for reference in value if isinstance(value, list) else [value]:
                try:
                    if reference is not None:
                        get_class_from_dynamic_module(reference, folder)
                except Exception:
                    failed.setdefault(file.name, []).append(key)
    return failed


def generate(model: Any, ids: Any, **settings: Any) -> Any:
    """What the model says after `ids` `[samples, seq]`: greedily, with the key-value cache, if `settings` are silent.

    Nothing but `settings` counts: how the model's own authors sample (penalties, stop strings, several answers) is
    left out for the time. Without an `eos_token_id` there is no end before `max_new_tokens`.
    """
    from transformers import GenerationConfig

    own = getattr(model, "generation_config", None)
    model.generation_config = GenerationConfig()
    try:
        return model.generate(
            input_ids=ids,
            attention_mask=ids.new_ones(ids.shape),
            **{"do_sample": False, "use_cache": True, "pad_token_id": 0, **settings},
        )
    finally:
        model.generation_config = own


if __name__ == "__main__":
    sys.stdout.write(json.dumps(main(sys.argv[1], sys.argv[2], "--trust-remote-code" in sys.argv)) + "\n")
