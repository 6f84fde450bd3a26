"""A model object of the user with its tokenizer, taken as it is: what a run reads of it, and what it refuses."""

from __future__ import annotations

import copy
import re
import shutil
import tempfile
import weakref
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from swm.errors import ModelError, brief, listed, quoted
from swm.loading.special_ids import correct_config, correct_ids, embedding_count
from swm.model.fingerprint import fingerprint
from swm.model.finite import all_finite
from swm.model.own_layers import own_layers
from swm.model.quiet import quiet_transformers
from swm.model.shared_copy import HISTORY, empty_copy, shared_copy
from swm.model.text_config import text_config

NAME = re.compile(r"\w+ in memory, sha256 [0-9a-f]{16}")
KINDS = "allowed: a transformers model that scores next tokens, a folder, a .gguf file, a hub id, a registered name"
# Most of what tokenizers treat in a way of their own: spaces, digits, marks, letters beyond ASCII.
TRIED = "Hello, world!  12 345 -- \n\tthe café's naïve 日本 text."


def was_in_memory(name: str) -> bool:
    """Whether this is what reports and recipes call a model that was an object in memory."""
    return NAME.fullmatch(name) is not None


@dataclass(frozen=True, eq=False)
class GivenModel:
    """A model object with its tokenizer or processor, which may be None where nothing reads text.

    Nothing of it is changed: `loaded` gives a copy of its modules that shares the numbers. `folder` holds its config
    and the files of the tokenizer, to be read like those of any other model; it goes with this object.
    """

    model: nn.Module
    tokenizer: Any
    folder: Path
    config: Any = field(repr=False)

    @classmethod
    def of(cls, model: Any, tokenizer: Any = None) -> GivenModel:
        """Check the model, and write what lies beside its weights into a temporary folder.

        Raises ModelError for what cannot be taken.
        """
        check_model(model)
        _check_tokenizer(tokenizer)
        config = _own_config(model)
        folder = Path(tempfile.mkdtemp(prefix="swm-"))
        given = cls(model, tokenizer, folder, config)
        weakref.finalize(given, shutil.rmtree, folder, ignore_errors=True)
        try:
            with quiet_transformers():
                # As `save_pretrained` does, without its checks: a model of fewer heads is saved in another class.
                (folder / "config.json").write_text(config.to_json_string(), encoding="utf-8")
                if tokenizer is not None:
                    tokenizer.save_pretrained(folder)
        except Exception as error:  # each tokenizer writes its files in its own way
            raise ModelError(
                f"config or tokenizer cannot be written: {type(error).__name__}: {brief(error)}"
            ) from error
        return given

    @cached_property
    def name(self) -> str:
        """What reports and recipes call it: its class, and a hash of all that its answers depend on."""
        return f"{type(self.model).__name__} in memory, sha256 {fingerprint(self.model, self.config)[:16]}"

    @property
    def device(self) -> torch.device:
        """Where the model lies."""
        return next(self.model.parameters()).device

    @property
    def dtype(self) -> torch.dtype:
        """What the model computes in."""
        return next(self.model.parameters()).dtype

    def loaded(self, dtype: str = "auto", device: str = "auto") -> nn.Module:
        """A model of its own in evaluation mode, whose numbers lie in the memory of the given one.

        On another device they are copies. Raises ModelError for another dtype than the model's.
        """
        from transformers import GenerationConfig

        self.check_dtype(dtype)
        twin: Any = shared_copy(self.model)
        # For a run, this is the original model.
        vars(twin).pop(HISTORY, None)
        _say_dtype(twin.config, self.dtype)
        correct_config(twin.config)
        if getattr(twin, "generation_config", None) is None:
            twin.generation_config = GenerationConfig.from_model_config(twin.config)
        correct_ids(twin.generation_config, embedding_count(twin.config))
        loaded: nn.Module = twin if device == "auto" else twin.to(device)
        return loaded.eval()

    def check_dtype(self, dtype: str) -> None:
        """Raise ModelError for another dtype than the model's."""
        own = str(self.dtype).removeprefix("torch.")
        if dtype not in ("auto", own):
            raise ModelError(
                f"found '{dtype}'; the model object is in {own} and is taken as it is: leave dtype out, or convert "
                f"the model before, as in model.to(torch.{dtype})",
                ("dtype",),
            )

    def empty(self) -> nn.Module:
        """The model without memory for its numbers."""
        model: Any = empty_copy(self.model)
        _say_dtype(model.config, self.dtype)
        correct_config(model.config)
        return model  # type: ignore[no-any-return]

    def tensors(self) -> Mapping[str, Tensor]:
        """All of its numbers by the model's own names."""
        return self.model.state_dict()

    def check_same_tokens(self, read: Any) -> None:
        """Raise ModelError where the tokenizer, read from the files that it wrote, is another one."""
        given = getattr(self.tokenizer, "tokenizer", self.tokenizer)
        same = len(given) == len(read) and given(TRIED)["input_ids"] == read(TRIED)["input_ids"]
        if not same:
            raise ModelError(
                f"the {type(given).__name__} writes files from which another tokenizer is read, so its ids would not "
                "be those of the result; save the model and the tokenizer, and give their folder"
            )


def check_model(model: Any) -> None:
    """Raise ModelError, with the way out, for a model object that cannot be taken."""
    from transformers import PreTrainedModel

    kind = type(model).__name__
    if hasattr(model, "merge_and_unload") or getattr(model, "_hf_peft_config_loaded", False):
        raise ModelError(f"the {kind} has an adapter; merge it first: model = model.merge_and_unload()")
    for name, way in (("_orig_mod", "torch.compile"), ("module", "a wrapper for several devices or processes")):
        if not isinstance(model, PreTrainedModel) and isinstance(getattr(model, name, None), PreTrainedModel):
            raise ModelError(f"the {kind} is made by {way}; give the model in it: model.{name}")
    if not isinstance(model, PreTrainedModel):
        raise ModelError(f"found {quoted(model)}; {KINDS}")
    if getattr(model, "hf_quantizer", None) is not None or getattr(model, "is_quantized", False):
        raise ModelError(
            f"the {kind} is quantized, and swm computes with its weights; load it without quantization, or give the "
            ".gguf file that it was read from"
        )
    if not model.can_generate() or getattr(model.config, "is_encoder_decoder", False):
        raise ModelError(f"a {kind} gives no scores of next tokens that swm could read; {KINDS}")
    places = sorted({str(value.device) for value in model.parameters()})
    if "meta" in places:
        raise ModelError(f"the {kind} has weights on the meta device, which hold no numbers; load them first")
    if len(places) > 1:
        raise ModelError(
            f"the {kind} lies on {', '.join(places)}; move it to one device, or give its folder and a device_map"
        )
    for name, value in model.named_parameters():
        if not all_finite(value):
            raise ModelError(f"weight {name} of the {kind} holds values that are not a number or infinite")
    _check_types(model)


def _check_types(model: nn.Module) -> None:
    """Raise ModelError for weights of several types that do not compute together; some models are made of such."""
    types = sorted({str(p.dtype).removeprefix("torch.") for p in model.parameters() if p.is_floating_point()})
    if len(types) < 2:
        return
    ids = torch.zeros(1, 2, dtype=torch.long, device=next(model.parameters()).device)
    try:
        with torch.no_grad(), torch.random.fork_rng(devices=[]):
            model(input_ids=ids)
    except RuntimeError as error:
        why = f"which it cannot compute with ({brief(error)})"
        raise ModelError(
            f"the {type(model).__name__} has weights in {listed(types)}, {why}; convert it first, as in "
            f"model.to(torch.{types[-1]})"
        ) from error


def _check_tokenizer(tokenizer: Any) -> None:
    reader = getattr(tokenizer, "tokenizer", tokenizer)
    if tokenizer is not None and not (callable(reader) and hasattr(reader, "get_vocab")):
        raise ModelError(
            f"found {quoted(tokenizer)}; allowed: a tokenizer or a processor of transformers", ("tokenizer",)
        )


def _own_config(model: Any) -> Any:
    """A copy of the model's config that says its class and its dtype, without special ids that have no embedding."""
    config = copy.deepcopy(model.config)
    _say_dtype(config, next(model.parameters()).dtype)
    correct_config(config)
    if own_layers(config) is None:
        config.architectures = [type(model).__name__]
    return config


def _say_dtype(config: Any, dtype: torch.dtype) -> None:
    for part in (config, text_config(config)):
        part.dtype = dtype
