"""Keep one layer of the window and drop the others."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar, Literal, final

from swm.interfaces.merger import LayerMerger, LayerWindow
from swm.model.state import State
from swm.model.windows import End


@final
@dataclass(frozen=True)
class Delete(LayerMerger):
    """Keeps the `bottom` or the `top` layer of a window, whole.

    `auto` keeps the end that the depth pruner means to keep, else the bottom, which is the "Delete" of the released
    SWM ablation.
    """

    name: ClassVar[str] = "delete"
    is_default: ClassVar[bool] = True
    deletes: ClassVar[bool] = True

    keep: Literal["auto", "bottom", "top"] = "auto"

    def merge(self, window: LayerWindow) -> State:
        return window.states[0 if self.survivor(window.keep) == "bottom" else -1]

    def survivor(self, keep: End | None) -> End:
        return (keep or "bottom") if self.keep == "auto" else self.keep
