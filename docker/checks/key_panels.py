"""The panels about keys: who asks, and whether their file and the accounting log are sound."""

from docker.checks.panel import Panel, PanelRow
from docker.checks.promql import JOB, Query, total

KEYS = PanelRow(
    "Keys",
    (
        Panel(
            "Requests by key",
            "Requests that ended, by the name of their key.",
            "reqps",
            (Query(total("decant_key_requests_total", "key", JOB), "{{key}}"),),
        ),
        Panel(
            "Tokens by key",
            "Tokens read and generated, discarded candidates included.",
            "",
            (Query(total("decant_key_tokens_total", "key, kind", JOB), "{{key}} {{kind}}"),),
        ),
        Panel(
            "Key file and accounting log",
            "Times that the key file was read again, and lines that the accounting log lacks.",
            "ops",
            (
                Query(total("decant_key_reloads_total", "outcome", JOB), "read again: {{outcome}}"),
                Query(total("decant_accounting_lost_total", selector=JOB), "lines lost"),
            ),
        ),
    ),
)
