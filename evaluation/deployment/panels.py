"""What the dashboard shows: rows of panels, each with its queries, as a table to read."""

from dataclasses import dataclass

from evaluation.deployment.promql import (
    CHOSEN,
    COUNTED,
    FAILURES,
    GUIDED,
    JOB,
    Query,
    mean,
    quantiles,
    tokens,
    total,
)

ENDED = "decant_request_duration_seconds_count"
OK = f'{CHOSEN}, outcome="ok"'
QUARTILES = {"median": 0.5, "lower quartile": 0.25, "upper quartile": 0.75}


@dataclass(frozen=True)
class Panel:
    """`unit` is Grafana's name of it, or empty for a number; `states` are words for 0 and 1, instead of a graph."""

    title: str
    description: str
    unit: str
    queries: tuple[Query, ...]
    states: tuple[str, str] | None = None


@dataclass(frozen=True)
class Row:
    title: str
    panels: tuple[Panel, ...]

    @property
    def columns(self) -> int:
        """Panels side by side: so many that no line has a single one."""
        return 4 if len(self.panels) == 4 else 3


REQUESTS = Row(
    "Requests",
    (
        Panel(
            "Requests",
            "Requests that ended, whatever their outcome.",
            "reqps",
            (Query(total(ENDED, "strategy"), "{{strategy}}"),),
        ),
        Panel(
            "Duration",
            "From a request's body to the end of its answer, of those that were answered.",
            "s",
            quantiles({"p50": 0.5, "p95": 0.95, "p99": 0.99}, "request_duration_seconds", selector=OK),
        ),
        Panel(
            "Duration of phases, p95",
            "Where the time goes: waiting for a place, generating, scoring after it, choosing.",
            "s",
            quantiles({"": 0.95}, "phase_duration_seconds", "strategy, phase"),
        ),
        Panel(
            "Time to first token",
            "To the first token that is final: a search that chooses at the end has none before.",
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
            "Requests refused, by reason, and requests that began and did not end well, by outcome.",
            "reqps",
            (
                Query(total("decant_refused_total", "reason", JOB), "refused: {{reason}}"),
                Query(total(ENDED, "outcome", f'{CHOSEN}, outcome!="ok"'), "ended: {{outcome}}"),
            ),
        ),
    ),
)

COST = Row(
    "Cost",
    (
        Panel(
            "Tokens generated and returned",
            "What the search draws, and what of it the client gets.",
            "cps",
            (
                Query(tokens("generated"), "{{strategy}} generated"),
                Query(tokens("returned"), "{{strategy}} returned"),
            ),
        ),
        Panel(
            "Tokens generated for each returned",
            "The price of an answer, in answers of the same length.",
            "",
            (Query(f"{tokens('generated')} / {tokens('returned')}", "{{strategy}}"),),
        ),
        Panel(
            "Candidates for each request",
            "Completions drawn for a request that was answered: all its prompts' and results' together.",
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

REWARD = Row(
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
            "A returned answer's reward minus its candidates' mean: what the search is for.",
            "",
            quantiles({"": 0.5}, "reward_gain", "strategy, reward"),
        ),
        Panel(
            "KL, mean",
            "Nats between the answer's law and the policy's: an estimate or a bound, as the answers say.",
            "",
            (Query(mean("kl_nats", "strategy"), "{{strategy}}"),),
        ),
    ),
)

LOAD = Row(
    "Load",
    (
        Panel(
            "Queue",
            "Requests that wait for a place, and how many may; more are refused.",
            "",
            (
                Query(f"sum(decant_requests_queued{{{JOB}}})", "waiting"),
                Query(f"sum(decant_requests_queued_limit{{{JOB}}})", "limit"),
            ),
        ),
        Panel(
            "In flight",
            "Requests accepted and not ended, the waiting ones among them.",
            "",
            (Query(f"sum by (strategy) (decant_requests_in_flight{{{CHOSEN}}})", "{{strategy}}"),),
        ),
        Panel(
            "Sequences in the policy's engine",
            "vLLM's own count: candidates, not requests.",
            "",
            (
                Query(f"sum(vllm:num_requests_running{{{JOB}}})", "running"),
                Query(f"sum(vllm:num_requests_waiting{{{JOB}}})", "waiting"),
            ),
        ),
        Panel(
            "Key-value cache",
            "Share of the policy engine's cache in use, and share of looked-up prompt tokens that it had.",
            "percentunit",
            (
                Query(f"max(vllm:kv_cache_usage_perc{{{JOB}}})", "in use"),
                Query(
                    f"{total('vllm:prefix_cache_hits_total', selector=JOB)} / "
                    f"{total('vllm:prefix_cache_queries_total', selector=JOB)}",
                    "prefix hits",
                ),
            ),
        ),
        Panel(
            "Preemptions",
            "Sequences thrown out of a full cache, to be computed again: give the engine memory, or fewer sequences.",
            "ops",
            (Query(total("vllm:num_preemptions_total", selector=JOB), "preemptions"),),
        ),
        Panel(
            "Engines",
            "Whether each engine lives. When one dies, the server ends, for a supervisor to start it anew.",
            "",
            (Query(f"min by (engine) (decant_engine_up{{{JOB}}})", "{{engine}}"),),
            states=("down", "up"),
        ),
    ),
)

GUIDES = Row(
    "Guides",
    (
        Panel(
            "Requests with a guide",
            "Of any strategy; one that names two guides counts for both.",
            "reqps",
            (Query(total("decant_guide_requests_total", "guide", JOB), "{{guide}}"),),
        ),
        Panel(
            "Share of all requests",
            "Of all that ended, scoring included.",
            "percentunit",
            (
                Query(
                    f"{total('decant_guide_requests_total', 'guide', JOB)} / on() group_left {total(ENDED, '', JOB)}",
                    "{{guide}}",
                ),
            ),
        ),
        Panel(
            "Duration, reward_guided",
            "Of answered requests of the strategy that only guides.",
            "s",
            quantiles(
                {"p50": 0.5, "p95": 0.95},
                "request_duration_seconds",
                selector=f'{GUIDED}, outcome="ok"',
            ),
        ),
        Panel(
            "KL, reward_guided, mean",
            "The answers' log-ratio to the policy, in nats.",
            "",
            (Query(mean("kl_nats", "strategy", GUIDED), "{{strategy}}"),),
        ),
    ),
)

ROWS = (REQUESTS, COST, REWARD, LOAD, GUIDES)
