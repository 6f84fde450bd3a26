"""Why a recipe was chosen, in sentences for people."""

from __future__ import annotations

from collections.abc import Sequence

from swm.choosing.candidate import CandidateList
from swm.choosing.clock import Besides, Clock
from swm.choosing.measurements import MeasuredRow, place_of
from swm.choosing.offers import Offer, Offers
from swm.run.estimates import about

# Of what would be better, and of what cannot be done.
NAMED = 3


def reasons(offer: Offer, others: Sequence[Offer], offers: Offers, clock: Clock, besides: Besides) -> list[str]:
    """What was chosen, what measured it, how the minutes are spent, and what was left out.

    Args:
        offer: What was chosen.
        others: Everything else that could be done, whether it fits in the time or not.
        offers: Where they come from.
        clock: The minutes.
        besides: What a run does beside its stages.
    """
    candidates, rows = offers.candidates, offers.rows
    lines = [f"recipe: {_named(offer)}", *_measured(offer, candidates, list(rows.values()))]
    lines.append(_time(offer, clock, besides))
    lines += _left_out(offer, others, offers, clock.left())
    texts = offers.drafting.texts
    if not offer.measured:
        lines.append(f"text: {offer.draft.samples} samples, and {offer.draft.setting.samples} when it was measured")
    lines += [f"note: {note}" for note in texts.notes]
    before, near = (rows[name] for name in candidates.nearness)
    lines.append(
        "note: text like the model's later use is the best for calibration and training: measured on text of the same "
        f"kind, a loss of {before.times:.2f} times the original perplexity becomes {near.times:.2f}"
    )
    return lines


def _named(offer: Offer) -> str:
    candidate = offer.draft.candidate
    where = "" if candidate.layout == "native" else f" (layout: {candidate.layout})"
    untrained = ", without recovery" if candidate.then and not offer.draft.training else ""
    return f"{candidate.name}{untrained}{where}"


def _measured(offer: Offer, candidates: CandidateList, rows: Sequence[MeasuredRow]) -> list[str]:
    """Where its number comes from."""
    row, expectation = offer.expectation.row, offer.expectation
    place, count = place_of(row, rows, candidates.near)
    rank = f"the best of {count} recipes" if place == 1 else f"number {place} of {count} recipes"
    lines = [
        f"measured: {row.size} less, {row.times:.2f} times the perplexity of the original, {rank} of this size "
        f"({candidates.about}; row '{row.name}' of benchmarks/RESULTS.md)"
    ]
    if offer.measured:
        lines.append(f"expected at this size and in this time, if that holds here: {expectation.times:.2f} times")
    return lines


def _time(offer: Offer, clock: Clock, besides: Besides) -> str:
    """How the minutes are spent."""
    parts = [f"choosing {about(clock.spent())}", f"loading {about(besides.begin)}"]
    parts += [f"search and fit at most {about(offer.fixed)}"] if offer.fixed >= 0.5 else []
    parts += [f"fits and training {about(offer.timed)}"] if offer.timed else []
    parts += [f"measuring {about(2 * besides.measure)}"] if besides.measure else []
    return f"time: {about(60 * clock.minutes)} in all; {', '.join(parts)}, saving and checking {about(besides.save)}"


def _left_out(offer: Offer, others: Sequence[Offer], offers: Offers, left: float) -> list[str]:
    """What would be better and takes longer, and what cannot be done, in a line each."""
    chosen = offer.expectation.log_times
    better = [other for other in others if not other.fits(left) and other.expectation.log_times < chosen]
    better.sort(key=lambda other: other.expectation.log_times)
    named = {_named(other): other for other in reversed(better)}
    lines = [
        f"left out: {name}: {other.expectation.times:.2f} times, needs about {about(other.needs)}"
        for name, other in list(reversed(named.items()))[:NAMED]
    ]
    if offers.untrained:
        lines.append(f"left out: the training after {'; '.join(offers.untrained)}: {offers.drafting.wanted.untrained}")
    alike: dict[str, list[str]] = {}
    for name, why in offers.refused.items():
        alike.setdefault(why, []).append(name)
    return lines + [f"left out: {'; '.join(names)}: {why}" for why, names in list(alike.items())[:NAMED]]
