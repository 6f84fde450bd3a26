"""Damage with a seed: recipes, text and files as people, editors, disks and programs spoil them."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable, Iterator
from pathlib import Path
from random import Random
from typing import Any

import yaml

Place = tuple[str | int, ...]

# What may stand where something else should: other types, the ends of ranges, text that a layer below chokes on.
ODD: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2, 7, 10**6, 2**31, 10**12, 10**30, 10**400, 0.0, -0.5, 0.3, 1.0, 1e308),
    *(math.inf, -math.inf, math.nan, "", " ", "~nosuchuser/x", "../x", "/", ".", "a\x00b", "\ud800", "\U0001f600"),
    *("x" * 300, "[red]x[/red]", "[/INST]", "\x1b[31m", "a\nb", "1e3", "²", "0-1000000000000", "null", "yes", "auto"),
    *([], [[]], [None], ["a", 1], [0, 1, 2], {}, {"name": None}, {"name": ["x"]}, {"a": {"b": {}}}, {1: 2}),
    *("cuda", "privateuseone", "meta", "cpu:7", "float16", "bfloat16", "seven", "model", "recipe.yaml", "text.txt"),
)
# What a slip of the finger, an editor or a disk puts into text.
SCRAPS = (
    *("\t", "\x00", "\ufeff", "\u2028", ":", "- ", "{", "}", "[", "]", "'", '"', "&a ", "*a", "!!bool x", "!!int x"),
    *(
        "!!float x",
        "!!timestamp x",
        "!!binary x",
        "!!set {a}",
        "!!omap [a]",
        "<<: *a",
        "? ",
        "|",
        ">",
        "%",
        "@",
        "---\n",
    ),
    *("\n", "\r", "#", "0x", "1_0", ",", "\ud800", '"\\ud83d\\ude00"', "~", "!!python/name:os.system ''"),
)


def places(data: Any, here: Place = ()) -> Iterator[Place]:
    """The way to every value in plain data, the whole left out."""
    inner = data.items() if isinstance(data, dict) else enumerate(data) if isinstance(data, list) else ()
    for key, value in inner:
        yield (*here, key)
        yield from places(value, (*here, key))


def spoilt(data: Any, random: Random) -> Any:
    """A copy of plain data with one value changed, moved, renamed, wrapped or taken out."""
    data = copy.deepcopy(data)
    place = random.choice(list(places(data)))
    holder = _at(data, place[:-1])
    key: Any = place[-1]
    kind = random.choice(["odd", "odd", "odd", "out", "renamed", "wrapped", "moved", "added", "scaled"])
    if kind == "out":
        del holder[key]
    elif kind == "renamed" and isinstance(holder, dict):
        name = str(key)
        cut = random.randrange(len(name))
        holder[random.choice([name[:cut] + name[cut + 1 :], name.upper(), f"{name}s", "name"])] = holder.pop(key)
    elif kind == "wrapped":
        holder[key] = random.choice([[holder[key]], {"name": holder[key]}, {key: holder[key]}, str(holder[key])])
    elif kind == "moved":
        other = random.choice(list(places(data)))
        holder[key] = copy.deepcopy(_at(data, other))
    elif kind == "added":
        target = holder[key] if isinstance(holder[key], dict | list) else holder
        value = random.choice(ODD)
        if isinstance(target, dict):
            target[random.choice(["extra", "name", "seed", "model", "²"])] = value
        else:
            target.append(value)
    elif kind == "scaled" and isinstance(holder[key], int | float):
        holder[key] *= random.choice([-1, 0, 3, 100, 10**5, 10**10, 0.5])
    else:
        holder[key] = random.choice(ODD)
    return data


def _at(data: Any, place: Place) -> Any:
    for key in place:
        data = data[key]
    return data


def scratched(text: str, random: Random) -> str:
    """Text with a scrap put in, a piece taken out, doubled, or cut off."""
    start = random.randrange(len(text) + 1)
    stop = min(len(text), start + random.choice([1, 2, 5, 20]))
    return random.choice(
        [
            text[:start] + random.choice(SCRAPS) + text[start:],
            text[:start] + random.choice(SCRAPS) + text[stop:],
            text[:start] + text[stop:],
            text[:start] + text[start:stop] * 2 + text[stop:],
            text[:start],
        ]
    )


def rotten(content: bytes, random: Random) -> bytes:
    """Bytes as a disk or a broken download leaves them: cut off, emptied, zeroed, flipped, other bytes between."""
    start = random.randrange(len(content) + 1)
    stop = min(len(content), start + random.choice([1, 8, 100, 4096]))
    noise = random.randbytes(stop - start)
    zeros = bytes(stop - start)
    return random.choice(
        [
            b"",
            content[:start],
            content[:start] + noise + content[stop:],
            content[:start] + zeros + content[stop:],
            content[:start] + b"\xff" + content[start:],
            content[: len(content) // 2] + bytes(len(content) - len(content) // 2),
            content + content[:64],
        ]
    )


def as_yaml(data: Any) -> str:
    """Plain data as another program writes it; whatever cannot be written as text is escaped."""
    return yaml.safe_dump(data, sort_keys=False)


def as_json(data: Any, random: Random) -> str:
    """The same as JSON, with tabs or blanks, all that is not ASCII escaped."""
    return json.dumps(data, indent=random.choice(["\t", 2, None]))


def damaged_recipe(recipe: Any, random: Random) -> str:
    """The text of a recipe with one thing wrong, as YAML or as JSON."""
    if random.random() < 0.3:
        return scratched(as_yaml(recipe), random)
    data = spoilt(recipe, random)
    return as_json(data, random) if random.random() < 0.25 else as_yaml(data)


def damaged_file(file: Path, random: Random) -> None:
    """Damage a file in place: its values where it is JSON, a line of it where it is lines, else its bytes."""
    content = file.read_bytes()
    if file.suffix == ".json" and random.random() < 0.7:
        file.write_text(as_json(spoilt(json.loads(content), random), random), encoding="utf-8")
    elif file.suffix == ".jsonl" and random.random() < 0.7:
        lines = content.decode().splitlines()
        which = random.randrange(len(lines))
        lines[which] = as_json(spoilt(json.loads(lines[which]), random), Random(2)).replace("\n", " ")
        file.write_text("\n".join(lines) + "\n", encoding="utf-8")
    elif file.suffix == ".yaml" and random.random() < 0.7:
        file.write_text(as_yaml(spoilt(yaml.safe_load(content), random)), encoding="utf-8")
    else:
        file.write_bytes(rotten(content, random))


Damage = Callable[[Path, Random], None]
