"""What a number depends on besides the model and the text: whose code made it, on what.

Whatever is kept on the disk is found again by this, so that the code that is edited is never believed to have run.
"""

from __future__ import annotations

import dataclasses
import hashlib
import json
import sys
from collections.abc import Container, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
import transformers

from swm import version
from swm.files.plain_data import leaves
from swm.interfaces.strategy import Strategy
from swm.model.fingerprint import relevant_config
from swm.model.view import ModelView
from swm.provenance.source_code import code_hash, package_hash

# Their versions are told; the code of a model that they hold is theirs.
LIBRARIES = ("torch", "transformers")


def machine() -> dict[str, Any]:
    """What changes the last digits of a result: the same recipe gives the same bytes with the cache and without."""
    return {
        **own_code(),
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "threads": torch.get_num_threads(),
        "cpu": torch.backends.cpu.get_cpu_capability(),
        **precision(),
    }


def precision() -> dict[str, str]:
    """How exact matrix products of float32 are, where the program that runs swm has asked for less than torch's own."""
    asked = torch.get_float32_matmul_precision()
    return {} if asked == "highest" else {"matmul_precision": asked}


def own_code() -> dict[str, str]:
    """The version of swm and its code, which in a checkout changes while the version stays."""
    return {"swm": version.__version__, "swm_code": package_hash(Path(version.__file__).parent)[:16]}


def code_of(things: Iterable[Any], told: Container[str] = ()) -> list[str] | None:
    """The code of these strategies and all inside them that is not swm's own, as hashes in a fixed order.

    None where some of it has no source file, such as code typed into a console: a change of it would go unnoticed.
    Files that are `told` of elsewhere are left out.
    """
    return code_of_classes({type(inner) for thing in things for inner in _inside(thing)}, told)


def code_of_model(view: ModelView) -> list[str] | None:
    """As `code_of`, of the modules of a model: code from the hub, and what plugins put in place of projections."""
    return code_of_classes({type(module) for module in view.model.modules()})


def code_of_classes(classes: Iterable[type[Any]], told: Container[str] = ()) -> list[str] | None:
    """As `code_of`, of these classes and those that they inherit from."""
    hashes = set(_code_by_module(classes, told).values())
    return None if None in hashes else sorted(code for code in hashes if code)


def code_by_module(things: Iterable[Any], told: Container[str] = ()) -> dict[str, str]:
    """The hashes of `code_of` by the names of the modules; modules without a source file are left out."""
    classes = {type(inner) for thing in things for inner in _inside(thing)}
    return {name: code for name, code in sorted(_code_by_module(classes, told).items()) if code}


def _code_by_module(classes: Iterable[type[Any]], left_out: Container[str]) -> dict[str, str | None]:
    names = {base.__module__ for cls in classes for base in cls.__mro__ if _foreign(base.__module__)}
    modules = {name: sys.modules.get(name) for name in names}
    hashes = {
        name: None if module is None else code_hash(module)
        for name, module in modules.items()
        if getattr(module, "__file__", None) not in left_out
    }
    return {name: code and code[:16] for name, code in hashes.items()}


def about_model(view: ModelView) -> dict[str, Any] | None:
    """What a model's answers depend on besides its weights; None where some of its code has no source file."""
    code = code_of_model(view)
    if code is None:
        return None
    about = {
        "config": relevant_config(view.model_config.to_dict()),
        "attention": getattr(view.config, "_attn_implementation", None),
        "family": dataclasses.asdict(view.family),
        "device": str(view.device),
        "model_code": code,
    }
    plain: dict[str, Any] = json.loads(json.dumps(about, default=str))
    return plain


def tokenizer_hash(tokenizer: Any) -> str:
    """A sha256 over what a tokenizer makes of text and back."""
    fast = getattr(tokenizer, "backend_tokenizer", None)
    rules = fast.to_str() if fast is not None else [sorted(tokenizer.get_vocab().items()), repr(tokenizer)]
    return key_of({"rules": rules, "special": tokenizer.special_tokens_map, "class": type(tokenizer).__name__})


def key_of(about: Mapping[str, Any]) -> str:
    """A name of 40 characters for what depends on this, plain data in any order."""
    return hashlib.sha256(json.dumps(about, sort_keys=True, default=str).encode()).hexdigest()[:40]


def _foreign(module: str) -> bool:
    top = module.partition(".")[0]
    return top not in ("swm", *LIBRARIES) and top not in sys.stdlib_module_names


def strategies_inside(thing: Any) -> Iterator[Strategy]:
    """The strategies in plain data, and those that their fields hold, however deep."""
    return (inner for inner in _inside(thing) if isinstance(inner, Strategy))


def _inside(thing: Any) -> Iterator[Any]:
    for _, leaf in leaves(thing):
        if dataclasses.is_dataclass(leaf) and not isinstance(leaf, type):
            yield leaf
            for field in dataclasses.fields(leaf):
                yield from _inside(getattr(leaf, field.name))
        elif isinstance(leaf, Strategy):
            yield leaf
