"""Queries in Prometheus's language, PromQL, for the dashboard's panels.

`$strategy` is a variable of the dashboard. `$__rate_interval` is Grafana's own: a window of at least four scrapes.
"""

from dataclasses import dataclass

JOB = 'job="decant"'
CHOSEN = f'{JOB}, strategy=~"$strategy"'
GUIDED = f'{JOB}, strategy="reward_guided"'
ENDED = "decant_request_duration_seconds_count"  # a counter of requests that ended
OK = f'{CHOSEN}, outcome="ok"'
# Requests that were invalid, or that their client left, say nothing about the server's health.
FAILURES = 'outcome=~"failed|timeout|refused"'
COUNTED = 'outcome!~"invalid|cancelled"'


@dataclass(frozen=True)
class Query:
    """An expression, and Grafana's template for the names of its series."""

    promql: str
    legend: str


def rate(metric: str, selector: str = CHOSEN) -> str:
    """Return a counter's rate per second, for each of its series that `selector` matches."""
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def total(metric: str, by: str = "", selector: str = CHOSEN) -> str:
    """Return a counter's rate per second, summed over its series; `by` names the labels to keep apart."""
    return f"sum by ({by}) ({rate(metric, selector)})" if by else f"sum({rate(metric, selector)})"


def quantile(q: float, histogram: str, by: str, selector: str = CHOSEN) -> str:
    """Return the `q`-quantile of a histogram of Decant's, for each value of the labels `by`."""
    return f"histogram_quantile({q}, {total(f'decant_{histogram}_bucket', f'le, {by}', selector)})"


def mean(histogram: str, by: str, selector: str = CHOSEN) -> str:
    """Return the mean of a histogram of values that may be negative, such as log-ratios.

    The sum of such values may decrease, and `rate` would take that for a reset of the counter; `delta` does not. After
    a real reset the count decreases too, and there is no mean until the window has passed.
    """
    window = f"{{{selector}}}[$__rate_interval]"
    summed, count = (f"sum by ({by}) (delta(decant_{histogram}_{of}{window}))" for of in ("sum", "count"))
    return f"{summed} / ({count} > 0)"


def quantiles(qs: dict[str, float], histogram: str, by: str = "strategy", selector: str = CHOSEN) -> tuple[Query, ...]:
    """Return one query for each quantile of `qs`, whose keys are the names for the legend."""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return tuple(Query(quantile(q, histogram, by, selector), f"{legend} {name}") for name, q in qs.items())


def tokens(kind: str) -> str:
    """Return the tokens per second of a kind: generated, returned, scored or prompt."""
    return total("decant_tokens_total", "strategy", f'{CHOSEN}, kind="{kind}"')
