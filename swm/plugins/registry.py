"""Registry: every strategy and family row that the plugins brought, by kind and name."""

from __future__ import annotations

import inspect
from collections.abc import Container, Iterator
from dataclasses import is_dataclass
from typing import Any, TypeVar

from swm.errors import ClashError, PluginError, RecipeError, at, brief, did_you_mean, listed, quoted
from swm.interfaces.strategy import Strategy
from swm.model.families import ModelFamily
from swm.plugins.construct import construct
from swm.plugins.entry import Entry
from swm.plugins.sources import PluginSource
from swm.plugins.validation import check_fields, fail
from swm.shown.tables import Table

S = TypeVar("S", bound=Strategy)

BUILTIN_ORIGIN = "swm"


def require_interface(interface: type[S], strategy: Strategy) -> S:
    """The strategy itself. Raises PluginError unless its class implements the interface of its kind."""
    if not isinstance(strategy, interface):
        raise PluginError(f"{strategy.kind} '{strategy.name}' must be a subclass of {interface.__name__}")
    return strategy


class Registry:
    """Strategies by kind and name. It holds no global state: tests and programs make their own.

    A name that two plugins claim and neither can be asked to give up belongs to nobody: using it is an error that
    names both, and everything else works.
    """

    def __init__(self) -> None:
        self._entries: dict[str, dict[str, Entry]] = {}
        self._claims: dict[tuple[str, str], list[Entry]] = {}
        self._families: dict[str, tuple[ModelFamily, str]] = {}
        self.sources: dict[str, PluginSource] = {}
        """Where the plugins come from, by their origins."""

    def register(self, thing: Any, origin: str, rivals: Container[str] = ()) -> None:
        """Add a strategy class or a ModelFamily row.

        A strategy's name that one of the `rivals` has already belongs to nobody from then on. Raises PluginError for
        anything else, for an unfinished class, and for a name that another origin has.
        """
        if isinstance(thing, ModelFamily):
            self._register_family(thing, origin)
            return
        if not (inspect.isclass(thing) and issubclass(thing, Strategy)):
            raise PluginError(f"{origin} registered {quoted(thing)}; allowed: a strategy class or a ModelFamily")
        kind, name = getattr(thing, "kind", None), getattr(thing, "name", None)
        if not isinstance(kind, str) or not isinstance(name, str) or not name:
            raise PluginError(f"{origin}: {thing.__qualname__} needs a class attribute name, as in name = 'my-name'")
        if inspect.isabstract(thing):
            missing = listed(thing.__abstractmethods__)
            raise PluginError(f"{origin}: {kind} '{name}' does not implement {missing}")
        if not is_dataclass(thing):
            raise PluginError(f"{origin}: {kind} '{name}' must be a dataclass: put @dataclass(frozen=True) above it")
        try:
            check_fields(thing)
        except Exception as error:  # whatever annotations raise when they are read
            raise PluginError(f"{origin}: the types of {kind} '{name}' cannot be used: {brief(error)}") from error
        taken = [*self._claims.get((kind, name), []), *filter(None, [self._entries.setdefault(kind, {}).get(name)])]
        for entry in taken:
            if entry.origin not in rivals or entry.origin == origin:
                raise ClashError(f"{kind} '{name}' is registered twice: by {entry.origin} and by {origin}")
        if taken:
            self._entries[kind].pop(name, None)
            self._claims[kind, name] = [*taken, Entry(thing, origin)]
        else:
            self._entries[kind][name] = Entry(thing, origin)

    def _register_family(self, family: ModelFamily, origin: str) -> None:
        family.check(origin)
        for known, owner in self._families.values():
            if origin != owner == BUILTIN_ORIGIN:
                continue
            clash = set(known.model_types) & set(family.model_types)
            if clash:
                raise ClashError(f"family row for model_type {listed(clash)} is registered by {owner} and by {origin}")
        if family.name in self._families:
            owner = self._families[family.name][1]
            raise ClashError(f"family row '{family.name}' is registered by {owner} and by {origin}")
        self._families[family.name] = (family, origin)

    def forget(self, origin: str) -> None:
        """Take out all that `origin` registered; a name that it contested belongs to the other again."""
        for key, claims in list(self._claims.items()):
            left = [entry for entry in claims if entry.origin != origin]
            self._claims[key] = left
            if len(left) < 2:
                del self._claims[key]
                for entry in left:
                    self._entries[key[0]][key[1]] = entry
        for kind, entries in self._entries.items():
            self._entries[kind] = {name: entry for name, entry in entries.items() if entry.origin != origin}
        self._families = {name: row for name, row in self._families.items() if row[1] != origin}

    def brought_by(self, origin: str) -> dict[str, list[str]]:
        """The names that `origin` registered, by kind; contested ones too, and its family rows."""
        names: dict[str, list[str]] = {}
        claims = [entry for entries in self._claims.values() for entry in entries]
        for entry in [*self.entries(), *claims]:
            if entry.origin == origin:
                names.setdefault(entry.strategy.kind, []).append(entry.strategy.name)
        families = [name for name, (_, owner) in self._families.items() if owner == origin]
        return {**names, **({"family": families} if families else {})}

    @property
    def families(self) -> list[ModelFamily]:
        """The rows; those of plugins come first, as they go before swm's own."""
        rows = sorted(self._families.values(), key=lambda row: row[1] == BUILTIN_ORIGIN)
        return [family for family, _ in rows]

    def family_origin(self, model_type: str) -> str:
        """Who brought the row of a model type."""
        origins = [origin for row, origin in self._families.values() if model_type in row.model_types]
        return next((origin for origin in origins if origin != BUILTIN_ORIGIN), BUILTIN_ORIGIN)

    def replaced_rows(self) -> dict[str, str]:
        """By model type, the plugin whose row stands in place of swm's own."""
        own = {kind for row, origin in self._families.values() if origin == BUILTIN_ORIGIN for kind in row.model_types}
        return {
            kind: origin
            for row, origin in self._families.values()
            for kind in row.model_types
            if origin != BUILTIN_ORIGIN and kind in own
        }

    def names(self, kind: str) -> list[str]:
        """The registered names of a kind, sorted; contested ones too."""
        return sorted({*self._entries.get(kind, {}), *(name for claimed, name in self._claims if claimed == kind)})

    def strategy(self, kind: str, name: str) -> type[Strategy]:
        """The class that is registered under a name. Raises KeyError for none, ClashError for a contested name."""
        self._check_claims(kind, name)
        return self._entries[kind][name].strategy

    def contested(self) -> dict[tuple[str, str], list[str]]:
        """The origins that claim a name, by kind and name, where there are several."""
        return {key: [entry.origin for entry in claims] for key, claims in sorted(self._claims.items())}

    def _check_claims(self, kind: str, name: str, path: tuple[str | int, ...] = ()) -> None:
        claims = self._claims.get((kind, name))
        if claims:
            owners = " and by ".join(entry.origin for entry in claims)
            raise ClashError(
                f"{kind} '{name}' is registered by {owners}, so it means neither; uninstall one, or name in the "
                "environment variable SWM_PLUGINS the plugins that should be loaded",
                path,
            )

    def default(self, kind: str) -> str:
        """The name of the strategy that is meant where none is named. Raises RecipeError when a kind has none."""
        for name, entry in sorted(self._entries.get(kind, {}).items()):
            if entry.strategy.is_default:
                return name
        raise RecipeError(f"no {kind} is named and there is no default; known: {listed(self.names(kind))}")

    def __repr__(self) -> str:
        counts = [f"{kind} {len(self.names(kind))}" for kind in sorted(self._entries)]
        return f"Registry({', '.join([*counts, f'family {len(self._families)}'])})"

    def _repr_html_(self) -> str:
        rows = [[kind, ", ".join(self.names(kind))] for kind in sorted(self._entries)]
        return Table(("kind", "names"), [*rows, ["family", ", ".join(row.name for row in self.families)]]).html()

    def entries(self) -> Iterator[Entry]:
        """All entries by kind and name, but for contested ones."""
        for kind in sorted(self._entries):
            for name in sorted(self._entries[kind]):
                yield self._entries[kind][name]

    def build(self, kind: str, value: Any, path: tuple[str | int, ...] = ()) -> Strategy:
        """A strategy from a bare name, a mapping with `name` and parameters, or an instance; None is the default.

        Raises RecipeError with the path of the culprit.
        """
        if value is None:
            with at(*path):
                value = self.default(kind)
        if isinstance(value, Strategy):
            if value.kind != kind:
                fail(path, f"{value.kind} '{value.name}' stands where a {kind} is expected")
            value = value if value.name not in self.names(kind) else self._rebuilt(value)
            return value if isinstance(value, Strategy) else self.build(kind, value, path)
        named = value in self.names(kind) if isinstance(value, str) else isinstance(value, dict) and "name" in value
        if not named:
            value = self._sugar(kind, value)
        if isinstance(value, str):
            value = {"name": value}
        if not isinstance(value, dict):
            fail(
                path,
                f"found {quoted(value)}; a {kind} is a name or a mapping with name; known: {listed(self.names(kind))}",
            )
        if "name" not in value:
            short = [name for name, entry in self._entries.get(kind, {}).items() if entry.strategy.short_field]
            hint = did_you_mean(next(iter(value), ""), short)
            fail(path, f"a {kind} needs a name; known: {listed(self.names(kind))}{hint and f'.{hint}'}")
        parameters = {key: item for key, item in value.items() if key != "name"}
        return self.build_named(kind, value["name"], parameters, path)

    def _sugar(self, kind: str, value: Any) -> Any:
        """The mapping that some strategy of the kind makes of a bare value (a path, a list), else the value."""
        for name, entry in sorted(self._entries.get(kind, {}).items()):
            parameters = entry.strategy.from_value(value)
            if parameters is not None:
                return {"name": name, **parameters}
        return value

    def build_named(
        self, kind: str, name: Any, parameters: dict[str, Any], path: tuple[str | int, ...] = ()
    ) -> Strategy:
        """As `build`, with the name apart from the parameters.

        Args:
            kind: The kind of the strategy, such as `merger`.
            name: Its registered name.
            parameters: Its parameters as in a recipe.
            path: Where it stands in the recipe.

        Returns:
            The strategy, its parameters validated.

        Raises:
            RecipeError: With the path of an unknown name or a wrong parameter.
            ClashError: For a name that two plugins claim.
        """
        if isinstance(name, str):
            self._check_claims(kind, name, path)
        entry = self._entries.get(kind, {}).get(name) if isinstance(name, str) else None
        if entry is None:
            known = self.names(kind)
            raise RecipeError(
                f"unknown {kind} {quoted(name)}; known: {listed(known)}.{did_you_mean(str(name), known)}", path
            )
        return construct(entry.strategy, parameters, self.build, path)

    def _rebuilt(self, value: Strategy) -> Strategy | dict[str, Any]:
        """An instance made in Python is validated like one from a recipe, by building it again."""
        if self.strategy(value.kind, value.name) is not type(value):
            return value
        return {"name": value.name, **{k: v for k, v in vars(value).items() if v is not None}}
