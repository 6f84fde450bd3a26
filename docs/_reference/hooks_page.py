"""What a plugin can implement, from the hook specifications."""

from __future__ import annotations

import inspect

from words import docstring

from swm.plugins import hookspecs


def hooks() -> str:
    """What plugins can rely on, then each hook with its arguments."""
    specified = [(name, hook) for name, hook in vars(hookspecs).items() if name.startswith("swm_")]
    parts = [docstring(hookspecs), f"This version of swm has `API_VERSION = {hookspecs.API_VERSION}`."]
    for name, hook in specified:
        arguments = ", ".join(str(p).replace("'", "") for p in inspect.signature(hook).parameters.values())
        parts += [f"## {name}", f"`{name}({arguments})`", docstring(hook)]
    return "\n\n".join(parts)
