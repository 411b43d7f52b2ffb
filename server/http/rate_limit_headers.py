"""What is left of a key's limits, as OpenAI's `x-ratelimit-...` headers of each answer."""

from starlette.types import Message, Send

from server.runtime.client import Client
from server.runtime.limiter import Limiter, Remaining


def with_rate_limits(send: Send, client: Client, limiter: Limiter) -> Send:
    """Return what sends a response with the headers of those limits a minute that the client has."""
    limits = client.limits
    if limits.requests_per_minute is None and limits.tokens_per_minute is None:
        return send

    async def send_with_headers(message: Message) -> None:
        if message["type"] == "http.response.start":
            for kind, left in zip(("requests", "tokens"), limiter.remaining(client), strict=True):
                if left is not None:
                    message = {**message, "headers": [*message.get("headers", ()), *_headers(kind, left)]}
        await send(message)

    return send_with_headers


def _headers(kind: str, left: Remaining) -> list[tuple[bytes, bytes]]:
    values = {"limit": str(left.limit), "remaining": str(left.remaining), "reset": _duration(left.reset)}
    return [(f"x-ratelimit-{name}-{kind}".encode(), value.encode()) for name, value in values.items()]


def _duration(seconds: float) -> str:
    """Return a time as OpenAI writes it, such as 12ms, 1.5s or 6m0s."""
    if seconds < 1:
        return f"{seconds * 1000:.0f}ms"
    minutes, rest = divmod(round(seconds, 1), 60)
    return f"{minutes:.0f}m{rest:g}s" if minutes else f"{rest:g}s"
