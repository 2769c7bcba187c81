"""Texts in files that somebody else wrote. They get into tables, charts, pages and paths."""

from __future__ import annotations

import re
from typing import Any

from adaptertune.errors import AdapterTuneError

# Several times the longest there is, which is a protocol in words.
LONGEST = 2000
# A terminal obeys these (the last 32 begin commands, too), and a chart's renderer dies of them.
CONTROL = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def check_texts(content: Any, where: object, error: type[AdapterTuneError]) -> None:
    """Whether all texts in what a JSON file holds, its keys too, can be shown.

    Raises:
        AdapterTuneError: of the kind given by ``error``; one is too long or has a control character.
    """
    left = [content]
    while left:
        value = left.pop()
        if isinstance(value, dict):
            left += [*value, *value.values()]
        elif isinstance(value, list):
            left += value
        elif isinstance(value, str):
            if len(value) > LONGEST:
                raise error(f"a text of {len(value):,} characters ({value[:20]}…)", where=where)
            if CONTROL.search(value):
                raise error(f"a control character in {value[:80]!r}", where=where)
