"""What the oracle's detectors share: borders of a word, and matches as offsets of bytes."""

import re
from collections.abc import Callable, Iterator

Span = tuple[int, int]
Find = Callable[[str], list[Span]]

# No ASCII letter, digit or `_` in front, or one that belongs to an escape: `\n`, `%20`. Not within such an escape.
FREE_BEFORE = r"(?:(?<![A-Za-z0-9_])|(?<=\\[nrtbf])|(?<=%[0-9A-Fa-f]{2}))(?<!%)(?<!%[0-9A-Fa-f])"
FREE_AFTER = r"(?![A-Za-z0-9_])"
# Not one of several groups of digits parted by `-` or `.`.
ALONE_BEFORE = FREE_BEFORE + r"(?<![0-9][-.])"
ALONE_AFTER = FREE_AFTER + r"(?![-.][0-9])"


def free(pattern: str) -> re.Pattern[str]:
    """`pattern` where it does not continue a word."""
    return re.compile(FREE_BEFORE + "(?:" + pattern + ")" + FREE_AFTER)


def matches(pattern: re.Pattern[str], text: str) -> Iterator[re.Match[str]]:
    """Every match at every place where one begins, overlapping ones too."""
    position = 0
    while match := pattern.search(text, position):
        yield match
        position = match.start() + 1


def found(
    pattern: re.Pattern[str],
    group: int | str = 0,
    accept: Callable[[re.Match[str]], bool] = lambda match: True,
) -> Find:
    """A detector of one pattern: the spans of `group` in the matches that are accepted, the leftmost first."""

    def find(text: str) -> list[Span]:
        return without_overlap(match.span(group) for match in matches(pattern, text) if accept(match))

    return find


def without_overlap(spans: Iterator[Span]) -> list[Span]:
    """In order; of those that overlap the first, at equal starts the longest."""
    kept: list[Span] = []
    for start, end in sorted(spans, key=lambda span: (span[0], -span[1])):
        if not kept or start >= kept[-1][1]:
            kept.append((start, end))
    return kept


def any_of(*finds: Find) -> Find:
    """All that any of these finds, those that overlap united."""

    def find(text: str) -> list[Span]:
        return united(span for one in finds for span in one(text))

    return find


def united(spans: Iterator[Span]) -> list[Span]:
    kept: list[Span] = []
    for start, end in sorted(spans):
        if kept and start < kept[-1][1]:
            kept[-1] = (kept[-1][0], max(end, kept[-1][1]))
        else:
            kept.append((start, end))
    return kept
