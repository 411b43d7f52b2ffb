"""The toy's former place; its policy and rewards are in `decoders.testing`, its text in `server.engines.toy_text`."""

from decoders.testing import EOS, MAX_TOKENS, WORDS, ToyBrevity, ToyGuide, ToyPolicy, ToyReward
from server.engines.toy_text import ToyText

__all__ = ["EOS", "MAX_TOKENS", "WORDS", "ToyBrevity", "ToyGuide", "ToyPolicy", "ToyReward", "ToyText"]
