"""How often things are tried."""

import random
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Pace:
    """Times in seconds."""

    first_retry_s: float = 1.0
    longest_retry_s: float = 60.0
    file_poll_s: float = 5.0
    start_limit_s: float = 10.0
    """How long a start waits for keys."""

    def retry_s(self, failures: int) -> float:
        """Before the next attempt, after so many that failed: doubled each time.

        With jitter, so that gateways that lost Vault together do not come back together.
        """
        longest = min(self.longest_retry_s, self.first_retry_s * 2.0 ** min(failures - 1, 30))
        return max(self.first_retry_s / 2, longest * random.uniform(0.5, 1.0))  # noqa: S311 - no secret
