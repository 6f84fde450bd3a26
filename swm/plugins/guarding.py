"""Code that is not swm's own: its errors are reported with its name and their place."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swm.errors import PluginError, SwmError, brief, quoted
from swm.interfaces.strategy import Strategy


def guarded(function: Callable[..., Any], origin: str, hook: str) -> Callable[..., Any]:
    """A plugin's hook whose errors, and `sys.exit`, are PluginErrors that name the plugin and the hook."""

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        try:
            given = function(*values)
        except KeyboardInterrupt:
            raise
        except SwmError as error:
            # What registering refuses names the plugin already.
            if hook == "swm_register":
                raise
            raise PluginError(f"plugin {origin}: hook {hook}: {error}") from error
        except BaseException as error:
            raise PluginError(f"plugin {origin}: hook {hook}: {describe(error)}") from error
        if hook == "swm_register" and given is not None:
            raise PluginError(
                f"plugin {origin}: hook {hook} returned {quoted(given)}, which nobody reads; it must call "
                "register(MyStrategy) for each class"
            )
        return given

    return call


@contextmanager
def no_exit() -> Iterator[None]:
    """What code that is not swm's own does in the block is a PluginError that names it.

    That is `sys.exit`, by a strategy or a library, as nobody but swm ends swm, and any error in a strategy of a plugin.
    """
    try:
        yield
    except SystemExit as error:
        raise PluginError(f"a plugin ended the run by {describe(error)}; it should raise an error instead") from error
    except (SwmError, MemoryError):
        raise
    except Exception as error:
        strategy = _running(error)
        # That of torch, which takes a second to import, is no MemoryError.
        if strategy is None or type(error).__name__ == "OutOfMemoryError":
            raise
        raise PluginError(f"{strategy.kind} '{strategy.name}': {describe(error)}") from error


def _running(error: Exception) -> Strategy | None:
    """The strategy of a plugin in whose methods an error was raised, the innermost one; None where there is none."""
    frames = [frame for frame, _ in traceback.walk_tb(error.__traceback__)]
    for frame in reversed(frames):
        owner = frame.f_locals.get("self")
        if isinstance(owner, Strategy) and not type(owner).__module__.startswith("swm."):
            return owner
    return None


def describe(error: BaseException) -> str:
    """An error in one line, with the file and the line that it comes from."""
    name, message = type(error).__name__, brief(error)
    what = name if message in ("", name) else f"{name}: {message}"
    frames = traceback.extract_tb(error.__traceback__)
    # The last frame is where it was raised; the first one is of the caller.
    return f"{what} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else what
