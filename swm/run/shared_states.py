"""What the stages of a run keep of the original model beyond one of them."""

from __future__ import annotations

from collections.abc import Sequence

from swm.interfaces.stage import Stage


def reference_samples(stages: Sequence[Stage], samples: int) -> int:
    """Of how many of the first samples the original model's end is read before the first stage; 0 where none needs it.

    Args:
        stages: Those of the run.
        samples: How many samples the calibration text has.
    """
    wanted = [stage.reference_samples() for stage in stages[1:] if stage.reads_reference]
    return max((samples if count is None else min(count, samples) for count in wanted), default=0)


def shared_names(stages: Sequence[Stage]) -> set[str]:
    """The names of what stages leave in memory for one another."""
    return {stage.shares for stage in stages if stage.shares is not None}
