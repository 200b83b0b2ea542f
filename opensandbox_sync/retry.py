"""Whether a failed call is sent again, and when: decisions only, no clock and no sleep of their own."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any, Callable, FrozenSet, Iterable, Mapping, Optional

from .config import seconds
from .errors import InvalidArgumentError
from .models import check_whole, shown


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
        put = object.__setattr__
        check_whole("max_retries", self.max_retries)
        for name in ("initial_backoff", "max_backoff", "max_retry_after"):
            put(self, name, seconds(name, getattr(self, name), allow_zero=True))
        given: Any = self.statuses
        if isinstance(given, (str, bytes, Mapping)) or not isinstance(given, Iterable):
            raise InvalidArgumentError(
                f"statuses must be a set of HTTP statuses, such as {{429, 503}}, not {shown(given)}"
            )
        put(self, "statuses", frozenset(check_whole("each of statuses", status, 100, 599) for status in given))

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
