"""Lists of words to mask: one a line in a file, or in the configuration. The words themselves are never shown."""

from collections.abc import Iterator, Sequence
from pathlib import Path

MAX_WORDS = 100_000
MAX_FILE_BYTES = 64 << 20


def read_words(file: Path) -> tuple[str, ...]:
    """The words of a file, without blank lines and comments (#). Raises ValueError that says what to do."""
    return tuple(word for _, word in _numbered(file))


def problem_of_file(file: Path) -> str | None:
    """Why the words of a file cannot be used; None: they can."""
    try:
        numbered = list(_numbered(file))
    except ValueError as error:
        return str(error)
    if not numbered:
        return f"{file} has no words; write one a line"
    words = [word for _, word in numbered]
    problem = next(problems_of_words(words), None)
    if problem is None:
        return None
    index, reason = problem
    return f"{file}: {reason}" if index is None else f"{file}, line {numbered[index][0]}: {reason}"


def problems_of_words(words: Sequence[str]) -> Iterator[tuple[int | None, str]]:
    """Index of a word that cannot be used, or None for all of them, and the reason."""
    if len(words) > MAX_WORDS:
        yield None, f"{len(words)} words are more than {MAX_WORDS}; use several rules"
    for index, word in enumerate(words):
        if len(word.strip()) < 2:
            yield index, "a word has at least 2 characters; one alone would be found everywhere"


def _numbered(file: Path) -> Iterator[tuple[int, str]]:
    """Words with the numbers of their lines."""
    try:
        with file.open("rb") as opened:
            written = opened.read(MAX_FILE_BYTES + 1)
    except OSError as error:
        raise ValueError(f"cannot read {file}: {error.strerror}") from None
    if len(written) > MAX_FILE_BYTES:
        raise ValueError(f"{file} is larger than {MAX_FILE_BYTES >> 20} MiB; list fewer words")
    try:
        text = written.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError(f"{file} is not UTF-8 text") from None
    for number, line in enumerate(text.split("\n"), start=1):
        word = line.strip()
        if word and not word.startswith("#"):
            yield number, word
