"""The panels about the server's load, its engines and its guides."""

from docker.checks.panel import Panel, PanelRow
from docker.checks.promql import CHOSEN, ENDED, GUIDED, JOB, Query, mean, quantiles, total

LOAD = PanelRow(
    "Load",
    (
        Panel(
            "Queue",
            "Requests that wait, and how many may wait; further ones are refused.",
            "",
            (
                Query(f"sum(decant_requests_queued{{{JOB}}})", "waiting"),
                Query(f"sum(decant_requests_queued_limit{{{JOB}}})", "limit"),
            ),
        ),
        Panel(
            "In flight",
            "Requests accepted and not ended, including waiting ones.",
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
            "Share of the policy engine's cache in use, and share of looked-up prompt tokens found in it.",
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
            "Sequences evicted from a full cache and computed again: give the engine more memory, or fewer sequences.",
            "ops",
            (Query(total("vllm:num_preemptions_total", selector=JOB), "preemptions"),),
        ),
        Panel(
            "Engines",
            "Whether each engine runs. When one dies, the server exits, so that a supervisor restarts it.",
            "",
            (Query(f"min by (engine) (decant_engine_up{{{JOB}}})", "{{engine}}"),),
            states=("down", "up"),
        ),
        Panel(
            "Connections",
            "Connections that are open.",
            "",
            (Query(f"sum(decant_connections{{{JOB}}})", "open"),),
        ),
        Panel(
            "Connections closed by a limit",
            "Connections that were refused or closed by a limit, by reason.",
            "ops",
            (Query(total("decant_connections_closed_total", "reason", JOB), "{{reason}}"),),
        ),
    ),
)

GUIDES = PanelRow(
    "Guides",
    (
        Panel(
            "Requests with a guide",
            "Requests with guides, of any strategy; a request with two guides counts for both.",
            "reqps",
            (Query(total("decant_guide_requests_total", "guide", JOB), "{{guide}}"),),
        ),
        Panel(
            "Share of all requests",
            "Share of all requests that ended, scoring requests included.",
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
            "Duration of answered requests of the strategy reward_guided.",
            "s",
            quantiles(
                {"p50": 0.5, "p95": 0.95},
                "request_duration_seconds",
                selector=f'{GUIDED}, outcome="ok"',
            ),
        ),
        Panel(
            "KL, reward_guided, mean",
            "Mean log-ratio of the answers to the policy, in nats.",
            "",
            (Query(mean("kl_nats", "strategy", GUIDED), "{{strategy}}"),),
        ),
    ),
)
