"""What a backend said, fit for our log: short, printable, and without the secrets that we sent it."""

from collections.abc import Iterable

MAX_CHARACTERS = 200
# A shorter one would be found everywhere, and is no secret.
_SHORTEST_SECRET = 4
# Less of its beginning opens nothing, and is found at the end of many words.
_SHORTEST_BEGINNING = 8


def fit_for_log(text: str, secrets: Iterable[str]) -> str:
    """The first printable characters of `text`, on one line; a backend that echoes a secret shows `***` instead.

    The secrets go first: the cut must not leave half of one, and an answer that broke off may end in half of one.
    """
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        text = text.replace(secret, "***")
        for length in range(len(secret) - 1, _SHORTEST_BEGINNING - 1, -1):
            if text.endswith(secret[:length]):
                text = text[:-length] + "***"
                break
    printable = "".join(character if character.isprintable() else " " for character in text[: 8 * MAX_CHARACTERS])
    line = " ".join(printable.split())
    return line if len(line) <= MAX_CHARACTERS else line[: MAX_CHARACTERS - 1] + "…"
