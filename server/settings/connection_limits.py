"""The section about connections."""

from pydantic import Field, PositiveFloat, PositiveInt

from server.settings.section import Section


class ConnectionLimits(Section):
    """What peers may hold, and how slow they may be. A request that waits, or a stream that goes on, is never idle."""

    max_connections: PositiveInt = Field(
        8192, description="In all, or as many as the process may have open files. One without a request makes room."
    )
    max_per_peer: int = Field(
        0, ge=0, description="Of one address; 0 for any number. Behind a proxy, that is the proxy's."
    )
    max_head_bytes: PositiveInt = Field(2**16, description="Of a request's line and headers; more are a 431.")
    head_timeout_s: PositiveFloat = Field(
        10.0, description="From a connection's, or a request's, first byte to its body."
    )
    body_timeout_s: PositiveFloat = Field(60.0, description="From the end of the headers to the end of the body.")
    keep_alive_s: PositiveFloat = Field(5.0, description="From the end of an answer to the next request.")
    stalled_timeout_s: PositiveFloat = Field(60.0, description="That a peer may leave an answer unread.")
