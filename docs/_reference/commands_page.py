"""The commands and their options, from the command line itself."""

from __future__ import annotations

from typing import Any

import typer

from swm.cli import app


def commands() -> str:
    """All commands in the order of `swm --help`."""
    group: Any = typer.main.get_command(app)
    return "\n\n".join(_command(name, command) for name, command in group.commands.items())


def _command(name: str, command: Any) -> str:
    if hasattr(command, "commands"):
        below = [_command(f"{name} {each}", inner) for each, inner in command.commands.items()]
        return "\n\n".join([f"## {name}", command.help, *below])
    arguments = [p for p in command.params if p.param_type_name == "argument"]
    options = [p for p in command.params if p.param_type_name == "option"]
    words = [_word(p) if p.required else f"[{_word(p)}]" for p in arguments]
    words += [f"{p.opts[0]} {p.name.upper()}" for p in options if p.required]
    rows = [f"| `{_word(p)}` | {_help(p)} |" for p in arguments]
    rows += [f"| {', '.join(f'`{option}`' for option in p.opts)} | {_help(p)} |" for p in options]
    usage = " ".join(["swm", name, *words])
    return "\n".join([f"## {name}", "", f"`{usage}`", "", command.help, "", "| | |", "|---|---|", *rows])


def _word(argument: Any) -> str:
    return str(argument.metavar or argument.name.upper())


def _help(parameter: Any) -> str:
    text = (parameter.help or "").replace("|", "\\|")
    # False is a flag that is not given; an empty list an option that may be given again.
    if parameter.required or parameter.default in (None, False, []):
        return text
    return f"{text} Default: `{parameter.default}`."
