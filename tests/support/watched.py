"""The former place of `decoders.testing.watched`."""

from decoders.testing import GUIDES, WatchedPolicy, let_others_run

__all__ = ["GUIDES", "WatchedPolicy", "let_others_run"]
