"""The reports of the last answers, for clients whose libraries drop what OpenAI's API does not know."""

from collections import OrderedDict

KEPT = 1000  # reports of each key
MAX_BYTES = 2**16  # of one report: thousands of choices in one answer are not kept


class ReportStore:
    """Keeps the last `KEPT` reports of each key, as JSON, by the id of their answer.

    `owner` is the digest of the key that the request carried; it is "" for all requests of a server that has no keys.
    """

    def __init__(self) -> None:
        self._reports: dict[str, OrderedDict[str, bytes]] = {}

    def keep(self, owner: str, answer: str, report: bytes) -> None:
        """Keep the report of an answer, unless it is over `MAX_BYTES`."""
        if len(report) > MAX_BYTES:
            return
        own = self._reports.setdefault(owner, OrderedDict())
        own[answer] = report
        if len(own) > KEPT:
            own.popitem(last=False)

    def find(self, owner: str, answer: str) -> bytes | None:
        """Return the report of an answer that this key asked for, or None."""
        own = self._reports.get(owner)
        return None if own is None else own.get(answer)
