"""Whether a failed call is sent again, and when: decisions only, no clock and no sleep of their own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Callable, FrozenSet, Optional

from .errors import InvalidArgumentError


@dataclass(frozen=True)
class RetryPolicy:
    """How often and how fast a call that failed is repeated.

    Only what is harmless to repeat (GET, PUT, DELETE) or provably was not sent (no connection) is ever repeated: a
    command or a create reaches the server at most once. All attempts of a call share its one deadline.
    """

    max_retries: int = 3
    #: Seconds before the first repeat; each further wait is up to twice as long. The wait is drawn from its upper half.
    initial_backoff: float = 0.1
    #: Seconds; the longest wait that we choose ourselves.
    max_backoff: float = 5.0
    #: Seconds; a server's Retry-After above this is not waited for.
    max_retry_after: float = 60.0
    #: Answers worth another try: rate limits, and gateways whose backend is just coming up.
    statuses: FrozenSet[int] = frozenset({429, 502, 503, 504})

    def __post_init__(self) -> None:
        if isinstance(self.max_retries, bool) or not isinstance(self.max_retries, int) or self.max_retries < 0:
            raise InvalidArgumentError(f"max_retries must be a whole number from 0 up, not {self.max_retries!r}")
        for name in ("initial_backoff", "max_backoff", "max_retry_after"):
            value = getattr(self, name)
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not 0 <= value < float("inf"):
                raise InvalidArgumentError(f"{name} must be finite seconds from 0 up, not {value!r}")

    def delay(
        self,
        attempt: int,
        *,
        repeatable: bool,
        status: Optional[int] = None,
        retry_after: Optional[float] = None,
        unsent: bool = False,
        draw: Callable[[], float] = random.random,
    ) -> Optional[float]:
        """Seconds to wait before attempt ``attempt + 1``, or None when the failure stands.

        ``attempt`` counts from 1. ``status`` is the answer's, None when no answer came; ``unsent`` says that no byte of
        the request left.
        """
        if attempt > self.max_retries:
            return None
        if not (repeatable or unsent):
            return None
        if status is not None and status not in self.statuses:
            return None
        if retry_after is not None:
            return retry_after if retry_after <= self.max_retry_after else None
        # 2.0 ** 1024 is an OverflowError, and no wait doubles that often.
        top: float = min(self.max_backoff, self.initial_backoff * 2.0 ** min(attempt - 1, 1000))
        return top * (0.5 + 0.5 * draw())
