"""The panels about requests: how many and how long, what they cost, and what reward their answers have."""

from docker.checks.panel import Panel, PanelRow
from docker.checks.promql import (
    CHOSEN,
    COUNTED,
    ENDED,
    FAILURES,
    JOB,
    OK,
    Query,
    mean,
    quantiles,
    tokens,
    total,
)

QUARTILES = {"median": 0.5, "lower quartile": 0.25, "upper quartile": 0.75}

REQUESTS = PanelRow(
    "Requests",
    (
        Panel(
            "Requests",
            "Requests that ended, with any outcome.",
            "reqps",
            (Query(total(ENDED, "strategy"), "{{strategy}}"),),
        ),
        Panel(
            "Duration",
            "From a request's body to the end of its answer; answered requests only.",
            "s",
            quantiles({"p50": 0.5, "p95": 0.95, "p99": 0.99}, "request_duration_seconds", selector=OK),
        ),
        Panel(
            "Duration of phases, p95",
            "Time spent waiting in the queue, generating, scoring what was generated, and choosing.",
            "s",
            quantiles({"": 0.95}, "phase_duration_seconds", "strategy, phase"),
        ),
        Panel(
            "Time to first token",
            "Until the first token that is final; a search that chooses at the end has none before that.",
            "s",
            quantiles({"p50": 0.5, "p95": 0.95}, "time_to_first_token_seconds"),
        ),
        Panel(
            "Failed share",
            "Requests that failed, timed out or were refused, of all but invalid and cancelled ones. "
            "The alerts' objective is 0.5%.",
            "percentunit",
            (
                Query(
                    f"{total(ENDED, 'strategy', f'{CHOSEN}, {FAILURES}')} / "
                    f"{total(ENDED, 'strategy', f'{CHOSEN}, {COUNTED}')}",
                    "{{strategy}}",
                ),
            ),
        ),
        Panel(
            "Not answered",
            "Requests refused, by reason, and requests accepted that ended otherwise than ok, by outcome.",
            "reqps",
            (
                Query(total("decant_refused_total", "reason", JOB), "refused: {{reason}}"),
                Query(total(ENDED, "outcome", f'{CHOSEN}, outcome!="ok"'), "ended: {{outcome}}"),
            ),
        ),
    ),
)

COST = PanelRow(
    "Cost",
    (
        Panel(
            "Tokens generated and returned",
            "Tokens that searches draw, and the part of them that clients receive.",
            "cps",
            (
                Query(tokens("generated"), "{{strategy}} generated"),
                Query(tokens("returned"), "{{strategy}} returned"),
            ),
        ),
        Panel(
            "Tokens generated for each returned",
            "The cost of an answer, in plain samples of its length.",
            "",
            (Query(f"{tokens('generated')} / {tokens('returned')}", "{{strategy}}"),),
        ),
        Panel(
            "Candidates for each request",
            "Completions drawn for an answered request, for all its prompts and results together.",
            "",
            (
                Query(
                    f"{total('decant_candidates_total', 'strategy')} / {total(ENDED, 'strategy', OK)}",
                    "{{strategy}}",
                ),
            ),
        ),
        Panel(
            "Tokens read",
            "Tokens that reward models scored, and tokens of prompts.",
            "cps",
            (
                Query(tokens("scored"), "{{strategy}} scored"),
                Query(tokens("prompt"), "{{strategy}} prompt"),
            ),
        ),
    ),
)

REWARD = PanelRow(
    "Reward",
    (
        Panel(
            "Reward of answers",
            "Median and quartiles of returned answers' rewards, from buckets: their shape, not their third digit.",
            "",
            quantiles(QUARTILES, "reward", "strategy, reward"),
        ),
        Panel(
            "Gain over the candidates, median",
            "A returned answer's reward minus the mean over its candidates.",
            "",
            quantiles({"": 0.5}, "reward_gain", "strategy, reward"),
        ),
        Panel(
            "KL, mean",
            "Nats between the answers' law and the policy's: an estimate or a bound, as each answer reports.",
            "",
            (Query(mean("kl_nats", "strategy"), "{{strategy}}"),),
        ),
    ),
)
