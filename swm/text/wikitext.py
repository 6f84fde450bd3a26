"""WikiText's own files, and the rows that the Hub's data set makes of them."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable

from swm.text.text_file import lines

# The first line that is not blank is the title of an article.
_TITLE = re.compile(r"\s*^ = [^=\n].* = $", re.M)


def rows_of(documents: Iterable[str]) -> list[str] | None:
    """The rows of a text that is one whole file of WikiText; None for every other text.

    A row is a line with its end, and a blank line is an empty row, as in `wikitext-2-raw-v1`.
    """
    first = list(itertools.islice(documents, 2))
    if len(first) != 1 or not _TITLE.match(first[0]):
        return None
    return [line if line.strip() else "" for line in lines(first)]
