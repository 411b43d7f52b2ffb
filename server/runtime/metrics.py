"""The server's metrics, for Prometheus.

Decant's metrics are in a registry of their own, so that a process can hold several apps. vLLM's are in the registry
of the process. `/metrics` shows both.
"""

import math
from collections.abc import Callable, Iterable, Mapping
from functools import partial

from prometheus_client import REGISTRY, CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from decoders.events import Done

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 40, 80, 160, 320, 640)
REWARD = (-20, -10, -5, -3, -2, -1, -0.5, -0.2, 0, 0.2, 0.5, 1, 2, 3, 5, 10, 20)
NATS = (0, 0.1, 0.2, 0.5, 1, 1.5, 2, 3, 4, 6, 10, 20, 50, 100)
KINDS = ("prompt", "generated", "returned", "scored")
OUTCOMES = ("ok", "invalid", "refused", "timeout", "failed", "cancelled")
REASONS = (
    "invalid",
    "unknown_model",
    "unauthorized",
    "strategy_not_allowed",
    "rate_limited",
    "queue_full",
    "wait_too_long",
    "draining",
    "engine_dead",
)
RELOADS = ("ok", "failed")
KINDS_OF_KEY = ("prompt", "generated")


class Metrics:
    """Decant's counters, gauges and histograms, with a method for each event that changes them."""

    def __init__(self) -> None:
        self.registry = registry = CollectorRegistry()

        def histogram(name: str, text: str, labels: tuple[str, ...], buckets: tuple[float, ...]) -> Histogram:
            return Histogram(f"decant_{name}", text, labels, buckets=buckets, registry=registry)

        self._duration = histogram(
            "request_duration_seconds",
            "From a request's arrival to the end of its answer",
            ("strategy", "outcome"),
            SECONDS,
        )
        self._first = histogram(
            "time_to_first_token_seconds", "From a request's arrival to its first final token", ("strategy",), SECONDS
        )
        self._phase = histogram("phase_duration_seconds", "Where a request's time went", ("strategy", "phase"), SECONDS)
        self._reward = histogram("reward", "Rewards of returned answers", ("strategy", "reward"), REWARD)
        self._gain = histogram(
            "reward_gain", "Reward of a returned answer minus its candidates' mean", ("strategy", "reward"), REWARD
        )
        self._kl = histogram("kl_nats", "Divergence of returned answers from the frozen policy", ("strategy",), NATS)
        self._in_flight = Gauge(
            "decant_requests_in_flight", "Requests being answered", ("strategy",), registry=registry
        )
        self._tokens = Counter("decant_tokens", "Tokens by kind", ("strategy", "kind"), registry=registry)
        self._candidates = Counter("decant_candidates", "Completions drawn", ("strategy",), registry=registry)
        self._guided = Counter("decant_guide_requests", "Requests that use a guide", ("guide",), registry=registry)
        self._refused = Counter("decant_refused", "Requests turned away", ("reason",), registry=registry)
        self._reloads = Counter(
            "decant_key_reloads", "Times that the key file was read", ("outcome",), registry=registry
        )
        self._of_key = Counter("decant_key_requests", "Requests of a key", ("key", "outcome"), registry=registry)
        self._tokens_of_key = Counter("decant_key_tokens", "Tokens of a key", ("key", "kind"), registry=registry)
        self._lost = Counter("decant_accounting_lost", "Lines that the accounting log lacks", registry=registry)
        self._up = Gauge("decant_engine_up", "Whether an engine lives", ("engine",), registry=registry)
        self._queued = Gauge("decant_requests_queued", "Requests waiting for a place", registry=registry)
        self._most_queued = Gauge(
            "decant_requests_queued_limit", "Requests that may wait; more are refused", registry=registry
        )
        # Prometheus sees no increase in a counter that appears with the value 1. So each counter is 0 before it counts:
        # those of reasons and guides from the start, those of a strategy from its first request on.
        for reason in REASONS:
            self._refused.labels(reason)
        for result in RELOADS:
            self._reloads.labels(result)

    def watch(
        self,
        up: Callable[[], Mapping[str, bool]],
        queued: Callable[[], int],
        max_queue: int,
        guides: Iterable[str],
    ) -> None:
        """Show the state of the server whenever the page is read.

        Args:
            up: gives whether each engine is alive, by name.
            queued: gives how many requests wait.
            max_queue: how many may wait.
            guides: the names of the loaded guides.
        """
        for guide in guides:
            self._guided.labels(guide)
        for engine in up():
            self._up.labels(engine).set_function(partial(_is_up, up, engine))
        self._queued.set_function(queued)
        self._most_queued.set(max_queue)

    def refused(self, reason: str) -> None:
        """Count a request that was refused before any work; `reason` is one of `REASONS`."""
        self._refused.labels(reason).inc()

    def keys_reloaded(self, result: str) -> None:
        """Count an attempt to read the key file again; `result` is one of `RELOADS`."""
        self._reloads.labels(result).inc()

    def keys_known(self, names: Iterable[str]) -> None:
        """Show the keys of the key file, before they have sent a request."""
        for name in names:
            for outcome in OUTCOMES:
                self._of_key.labels(name, outcome)
            for kind in KINDS_OF_KEY:
                self._tokens_of_key.labels(name, kind)

    def used(self, key: str, outcome: str, prompt_tokens: int, generated_tokens: int) -> None:
        """Count a request that has ended, and its tokens, for the key with this name; "" is no key."""
        if key:
            self._of_key.labels(key, outcome).inc()
            for kind, count in zip(KINDS_OF_KEY, (prompt_tokens, generated_tokens), strict=True):
                self._tokens_of_key.labels(key, kind).inc(count)

    def accounting_lost(self, lines: int) -> None:
        """Count lines that the accounting log lacks."""
        self._lost.inc(lines)

    def guided(self, guides: Iterable[str]) -> None:
        """Count a request that uses `guides`."""
        for guide in guides:
            self._guided.labels(guide).inc()

    def began(self, strategy: str) -> None:
        """Count a request as in flight."""
        for outcome in OUTCOMES:
            self._duration.labels(strategy, outcome)
        for kind in KINDS:
            self._tokens.labels(strategy, kind)
        self._candidates.labels(strategy)
        self._in_flight.labels(strategy).inc()

    def first_token(self, strategy: str, seconds: float) -> None:
        """Record that a request has its first final token, `seconds` after it arrived."""
        self._first.labels(strategy).observe(seconds)

    def queued(self, strategy: str, seconds: float) -> None:
        """Record that a request was admitted after it had waited `seconds`."""
        self._phase.labels(strategy, "queue").observe(seconds)

    def ended(self, strategy: str, outcome: str, seconds: float) -> None:
        """Record that a request has ended, `seconds` after it arrived; `outcome` is one of `OUTCOMES`."""
        self._in_flight.labels(strategy).dec()
        self._duration.labels(strategy, outcome).observe(seconds)

    def answered(self, strategy: str, prompt_tokens: int, done: Done) -> None:
        """Record the tokens, rewards and divergences of one prompt's run, which has ended."""
        cost = done.cost
        for phase, seconds in cost.seconds.items():
            self._phase.labels(strategy, phase).observe(seconds)
        self._candidates.labels(strategy).inc(cost.candidates)
        returned = sum(len(r.candidate.tokens) for r in done.results)
        counts = (prompt_tokens, cost.generated_tokens, returned, cost.scored_tokens)
        for kind, count in zip(KINDS, counts, strict=True):
            self._tokens.labels(strategy, kind).inc(count)
        for result in done.results:
            for name, reward in result.rewards.items():
                if reward is None or not math.isfinite(reward):
                    continue
                self._reward.labels(strategy, name).observe(reward)
                if result.mean_rewards is not None:
                    self._gain.labels(strategy, name).observe(reward - result.mean_rewards[name])
            if result.kl is not None and result.kl.reference == "policy":
                self._kl.labels(strategy).observe(result.kl.nats)

    def page(self) -> bytes:
        """Return the text that Prometheus reads: Decant's metrics, then the process's and vLLM's."""
        return generate_latest(self.registry) + generate_latest(REGISTRY)


def _is_up(up: Callable[[], Mapping[str, bool]], engine: str) -> float:
    return float(up()[engine])
