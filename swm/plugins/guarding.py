"""Code that is not swm's own: its errors are reported with its name and their place."""

from __future__ import annotations

import functools
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from swm.errors import PluginError, SwmError, brief


def guarded(function: Callable[..., Any], origin: str, hook: str) -> Callable[..., Any]:
    """A plugin's hook whose errors, and `sys.exit`, are PluginErrors that name the plugin and the hook."""

    @functools.wraps(function)
    def call(*values: Any) -> Any:
        try:
            return function(*values)
        except KeyboardInterrupt:
            raise
        except SwmError as error:
            # What registering refuses names the plugin already.
            if hook == "swm_register":
                raise
            raise PluginError(f"plugin {origin}: hook {hook}: {error}") from error
        except BaseException as error:
            raise PluginError(f"plugin {origin}: hook {hook}: {describe(error)}") from error

    return call


@contextmanager
def no_exit() -> Iterator[None]:
    """`sys.exit` inside the block, by a strategy or a library, is a PluginError: nobody but swm ends swm."""
    try:
        yield
    except SystemExit as error:
        raise PluginError(f"a plugin ended the run by {describe(error)}; it should raise an error instead") from error


def describe(error: BaseException) -> str:
    """An error in one line, with the file and the line that it comes from."""
    name, message = type(error).__name__, brief(error)
    what = name if message in ("", name) else f"{name}: {message}"
    frames = traceback.extract_tb(error.__traceback__)
    # The last frame is where it was raised; the first one is of the caller.
    return f"{what} ({Path(frames[-1].filename).name}, line {frames[-1].lineno})" if len(frames) > 1 else what
