"""What is wrong with a configuration, said so that one can mend it."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from gateway.config.document import KeyPath


def dotted(path: KeyPath) -> str:
    """`tenants.acme.relabel.metrics[2].regex`."""
    text = ""
    for key in path:
        text += f"[{key}]" if isinstance(key, int) else f".{key}" if text else key
    return text


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that is wrong, where, and what to do."""

    file: Path
    line: int
    column: int
    path: str
    message: str
    severity: Literal["error", "warning"] = "error"

    def __str__(self) -> str:
        where = f"{self.file}:{self.line}:{self.column}"
        return f"{where} {self.path}: {self.message}" if self.path else f"{where}: {self.message}"

    def as_json(self) -> str:
        """One JSON object, for editors and CI."""
        return json.dumps(
            {
                "file": str(self.file),
                "line": self.line,
                "column": self.column,
                "path": self.path,
                "message": self.message,
                "severity": self.severity,
            }
        )


class ConfigError(Exception):
    """A configuration that cannot be used; `problems` has every reason."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = tuple(problems)


def everybody_may_read(file: Path) -> bool:
    """Read or write it. Raises OSError."""
    return bool(file.stat().st_mode & 0o007)
