"""The plugins that a plan names: whether they are here, and which of their files a user lets it run.

A plan is a file that may come from anywhere. So it never runs a plugin file by itself: the user names the file, or
says that those of the plan are trusted, and then only a file with the hash that the plan has of it is run.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from swm.errors import PlanError, RecipeError, quoted
from swm.files import yaml_file as yamlfile
from swm.files.private_paths import last_part, remembered_paths
from swm.paths import expanded, is_file
from swm.plan.plan import LONGEST
from swm.plugins.needs import PluginNeeds
from swm.plugins.registry import Registry
from swm.provenance.source_code import file_hash

# What a plan is read with; families and models count where it is applied.
WITHOUT = ("family", "model")
TEXTS = ("path", "sha256", "distribution", "version", "origin", "class")


def plugin_needs(needed: Any, registry: Registry, file: Path) -> PluginNeeds:
    """What the plan in `file` says that it needs. Raises PlanError for what is not as swm writes it."""
    _check(needed, file)
    return PluginNeeds(needed, registry, lambda name: _places(name, file))


def check_needs(needs: PluginNeeds, file: str | Path, without: Collection[str] = ()) -> None:
    """Raise PlanError with everything that is missing and how to get it; `without` are kinds that do not count."""
    missing = needs.missing(without)
    if missing:
        trust = (
            ". A plan does not run plugin files by itself; name those that you trust, or all of the plan's with "
            "--plan-plugins"
        )
        files = any("path" in entry for entry in needs.needed)
        raise PlanError(f"{file} needs plugins that are not in use here: {'; '.join(missing)}{trust * files}")


def trusted_files(file: Path) -> list[Path]:
    """The plugin files that a plan names, for a user who trusts it.

    Raises PlanError where one is not here, or has not the hash that the plan has of it: that is another file.
    """
    try:
        data, _ = yamlfile.read("plan", file, LONGEST)
    except RecipeError as error:
        raise PlanError(str(error)) from None
    needed = data.get("plugins", []) if isinstance(data, dict) else []
    _check(needed, file)
    files = []
    for entry in needed:
        if "path" in entry:
            places = list(_places(entry["path"], file))
            same = [place for place in places if file_hash(place) == entry["sha256"]]
            if not same:
                why = f"{places[0]} has another hash" if places else "it is not here"
                raise PlanError(
                    f"{file} names plugin file {entry['path']}, and {why}; name with --plugin the one that you mean"
                )
            files.append(same[0])
    return files


def _check(needed: Any, file: Path) -> None:
    entries: Sequence[Any] = needed if isinstance(needed, list) else [needed]
    for entry in entries:
        known = isinstance(entry, Mapping) and all(isinstance(entry.get(key, ""), str) for key in TEXTS)
        provides = entry.get("provides") if known else None
        whole = isinstance(provides, list) and all(isinstance(what, str) for what in provides)
        if not whole or ("path" in entry) != ("sha256" in entry) or ("distribution" in entry) != ("version" in entry):
            raise PlanError(
                f"{file}: plugins: found {quoted(entry)}; swm writes a file with its sha256, or a distribution"
            )


def _places(name: str, file: Path) -> Iterator[Path]:
    """Where a plugin file of a plan may lie: as it was named, or where it lay when swm saved the plan here."""
    remembered = (Path(path) for path in remembered_paths(file.parent).values() if last_part(path) == name)
    return (place for place in (expanded(name), *remembered) if is_file(place))
