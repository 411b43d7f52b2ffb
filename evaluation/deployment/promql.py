"""The queries that the dashboard's panels are made of.

`$strategy` is the dashboard's variable and `$__rate_interval` Grafana's own: at least four scrapes.
"""

from dataclasses import dataclass

JOB = 'job="decant"'
CHOSEN = f'{JOB}, strategy=~"$strategy"'
GUIDED = f'{JOB}, strategy="reward_guided"'
# A request that the caller got wrong, or left, says nothing of the server.
FAILURES = 'outcome=~"failed|timeout|refused"'
COUNTED = 'outcome!~"invalid|cancelled"'


@dataclass(frozen=True)
class Query:
    promql: str
    legend: str


def rate(metric: str, selector: str = CHOSEN) -> str:
    return f"rate({metric}{{{selector}}}[$__rate_interval])"


def total(metric: str, by: str = "", selector: str = CHOSEN) -> str:
    """A counter's rate, added up; `by` names the labels that are kept."""
    return f"sum by ({by}) ({rate(metric, selector)})" if by else f"sum({rate(metric, selector)})"


def quantile(q: float, histogram: str, by: str, selector: str = CHOSEN) -> str:
    return f"histogram_quantile({q}, {total(f'decant_{histogram}_bucket', f'le, {by}', selector)})"


def mean(histogram: str, by: str, selector: str = CHOSEN) -> str:
    """The mean of what may be negative, as a log-ratio may: its sum goes down, which `rate` takes for a reset.

    After a real reset the count goes down too, and there is no mean until the window has passed.
    """
    window = f"{{{selector}}}[$__rate_interval]"
    summed, count = (f"sum by ({by}) (delta(decant_{histogram}_{of}{window}))" for of in ("sum", "count"))
    return f"{summed} / ({count} > 0)"


def quantiles(qs: dict[str, float], histogram: str, by: str = "strategy", selector: str = CHOSEN) -> tuple[Query, ...]:
    """One query for each quantile; `qs` names them."""
    legend = " ".join(f"{{{{{label.strip()}}}}}" for label in by.split(","))
    return tuple(Query(quantile(q, histogram, by, selector), f"{legend} {name}") for name, q in qs.items())


def tokens(kind: str) -> str:
    return total("decant_tokens_total", "strategy", f'{CHOSEN}, kind="{kind}"')
