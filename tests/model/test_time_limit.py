"""The time limit: it ends a search in any thread, and is not lost where errors are swallowed."""

from __future__ import annotations

import threading
import time
import weakref
from typing import Any

import pytest

from swm.model.time_limit import time_limit

HERE = __name__.partition(".")[0]


def test_the_time_limit_holds_in_any_thread_and_cleans_up() -> None:
    caught: list[BaseException] = []

    def search() -> None:
        try:
            with time_limit(0.2, HERE):
                while True:
                    len([])
        except TimeoutError as error:
            caught.append(error)

    thread = threading.Thread(target=search, daemon=True)
    thread.start()
    thread.join(5)
    assert len(caught) == 1
    with time_limit(0.01, HERE):
        pass
    time.sleep(0.02)
    assert len([]) == 0


def test_the_time_limit_is_not_lost_in_a_callback_that_swallows_it() -> None:
    elsewhere: dict[str, Any] = {"__name__": "elsewhere", "sleep": time.sleep}
    exec("def slow(reference): sleep(0.3)", elsewhere)

    class Thing:
        pass

    def search() -> None:
        end = time.monotonic() + 5
        thing = Thing()
        reference = weakref.ref(thing, elsewhere["slow"])
        del thing
        assert reference() is None
        while time.monotonic() < end:
            len([])

    with pytest.raises(TimeoutError), time_limit(0.2, HERE):
        search()
