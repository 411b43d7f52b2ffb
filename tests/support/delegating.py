"""The former place of `decoders.testing.delegating`."""

from decoders.testing import DelegatingPolicy

__all__ = ["DelegatingPolicy"]
