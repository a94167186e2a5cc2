"""How much a scenario does: a little in CI, much in the long form (`make soak`)."""

import os
from typing import Protocol

SOAK = os.environ.get("GATEWAY_SOAK") == "1"
SEED = int(os.environ.get("GATEWAY_SOAK_SEED", "20261125"))
"""Of every scenario; another one tries other moments."""


def scaled(ci: int, soak: int) -> int:
    """The count for the form that runs."""
    return soak if SOAK else ci


class Note(Protocol):
    """Keeps what a scenario came to for the summary at the end of the long form."""

    def __call__(self, *what: object) -> None: ...
