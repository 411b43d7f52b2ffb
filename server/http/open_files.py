"""Every connection is an open file, and a process may have only so many."""

import logging
import resource

from server.settings import ConnectionLimits

OTHERS = 256  # files that the engines, the rewards and the logs have open
log = logging.getLogger("decant")


def within_open_files(limits: ConnectionLimits) -> ConnectionLimits:
    """Let this process open as many files as it may, and return the limits with as many connections as that allows.

    Where all are open, no connection is accepted, not even one that would end at once.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = limits.max_connections + OTHERS
    if soft != resource.RLIM_INFINITY and soft < wanted:
        soft = wanted if hard == resource.RLIM_INFINITY else min(hard, wanted)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))
    if soft == resource.RLIM_INFINITY or soft >= wanted:
        return limits
    allowed = max(1, soft - OTHERS)
    log.warning(
        "%d connections at most, not %d: this process may open %d files (ulimit -n)",
        allowed,
        limits.max_connections,
        soft,
    )
    return limits.model_copy(update={"max_connections": allowed})
