"""Bounds on the requests of each client: requests and tokens a minute, and sequences at the same time."""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from decoders.errors import InvalidRequest
from server.errors import RateLimited
from server.runtime.client import Client

MINUTE = 60.0


class Remaining(NamedTuple):
    """What is left of a limit a minute."""

    limit: int
    remaining: int
    reset: float  # seconds until nothing is used of it


class Bucket:
    """A token bucket: what it holds grows by `limit` a minute up to `limit`, and a use takes from it.

    So uses add up to at most limit * (1 + T / 60) in any T seconds. `limits` from PyPI has an entry in a list for each
    unit of a use, and gives nothing back.
    """

    def __init__(self, limit: int, now: float) -> None:
        self.limit = limit
        self._level = float(limit)
        self._at = now

    def change(self, limit: int, now: float) -> None:
        """Change the limit; what is used of the old one is used of the new one."""
        self._refill(now)
        self._level += limit - self.limit
        self.limit = limit

    def wait(self, amount: float, now: float) -> float:
        """Return in how many seconds the bucket will hold `amount`; 0 where it does."""
        self._refill(now)
        return max(0.0, amount - self._level) * MINUTE / self.limit

    def take(self, amount: float) -> None:
        self._level -= amount

    def give_back(self, unused: float, taken: float, now: float) -> None:
        """Return what of a use at the time `taken` was not needed, and has not come back by itself since."""
        self._refill(now)
        again = max(0.0, unused - (now - taken) * self.limit / MINUTE)
        self._level = min(float(self.limit), self._level + again)

    def remaining(self, now: float) -> Remaining:
        self._refill(now)
        return Remaining(self.limit, max(0, int(self._level)), (self.limit - self._level) * MINUTE / self.limit)

    def _refill(self, now: float) -> None:
        self._level = min(float(self.limit), self._level + (now - self._at) * self.limit / MINUTE)
        self._at = now


class Use:
    """What a request has taken; whoever holds it sets `used` to the tokens that it needed, once that is known."""

    def __init__(self, reserved: int) -> None:
        self.used = reserved


class _Account:
    """What the requests of one client use."""

    def __init__(self) -> None:
        self.requests: Bucket | None = None
        self.tokens: Bucket | None = None
        self.sequences = 0


class Limiter:
    """Counts what the requests of each client use, by the client's name, and refuses what is over its limits.

    Args:
        clock: The time in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._accounts: dict[str, _Account] = {}

    def request(self, client: Client) -> None:
        """Count a request. Raises `RateLimited`."""
        limit = client.limits.requests_per_minute
        bucket = self._account(client).requests
        if limit is None or bucket is None:
            return
        wait = bucket.wait(1, self._clock())
        if wait > 0:
            raise RateLimited(f"This key may send {limit} requests a minute.", wait)
        bucket.take(1)

    @contextmanager
    def hold(self, client: Client, tokens: int, sequences: int, field: str | None = None) -> Iterator[Use]:
        """Count what a request may use, and at the end of the `with` block what it used.

        Raises `RateLimited`, and `InvalidRequest` for one that alone is over a limit.

        Args:
            tokens: The most that it may use: those that it reads, and those that it may generate.
            sequences: How many it may draw at the same time.
            field: The request's field that decides both, for the error.
        """
        limits, account, now = client.limits, self._account(client), self._clock()
        if limits.sequences is not None:
            _check(sequences, limits.sequences, f"draw {sequences} sequences at the same time", field)
            if account.sequences + sequences > limits.sequences:
                message = f"{account.sequences} of this key's {limits.sequences} sequences are being drawn."
                raise RateLimited(message, 1.0)
        bucket = account.tokens
        if limits.tokens_per_minute is not None and bucket is not None:
            _check(tokens, limits.tokens_per_minute, f"use {tokens} tokens", field)
            wait = bucket.wait(tokens, now)
            if wait > 0:
                message = f"This request may need {tokens} of the {bucket.limit} tokens a minute that its key has."
                raise RateLimited(message, wait)
            bucket.take(tokens)
        account.sequences += sequences
        use = Use(tokens)
        try:
            yield use
        finally:
            account.sequences -= sequences
            if bucket is not None:
                bucket.give_back(tokens - use.used, now, self._clock())

    def remaining(self, client: Client) -> tuple[Remaining | None, Remaining | None]:
        """Return what is left of the client's requests a minute and tokens a minute; None where there is no limit."""
        account, now = self._account(client), self._clock()
        return (
            None if account.requests is None else account.requests.remaining(now),
            None if account.tokens is None else account.tokens.remaining(now),
        )

    def _account(self, client: Client) -> _Account:
        account = self._accounts.get(client.name)
        if account is None:
            account = self._accounts[client.name] = _Account()
        limits = client.limits
        account.requests = self._bucket(account.requests, limits.requests_per_minute)
        account.tokens = self._bucket(account.tokens, limits.tokens_per_minute)
        return account

    def _bucket(self, bucket: Bucket | None, limit: int | None) -> Bucket | None:
        """Return the bucket of a limit that may have changed with the key file."""
        if limit is None:
            return None
        if bucket is None:
            return Bucket(limit, self._clock())
        if bucket.limit != limit:
            bucket.change(limit, self._clock())
        return bucket


def _check(needed: int, allowed: int, what: str, field: str | None) -> None:
    if needed > allowed:
        least = "fewer candidates or prompts, or a smaller max_tokens"
        raise InvalidRequest(f"This request may {what}, over the {allowed} that its key has: ask for {least}.", field)
