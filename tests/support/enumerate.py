"""The former place of `decoders.testing.enumeration`."""

from decoders.testing import ONE, PROMPT, Branch, answer, answers, collect, done, every_path, joint_law, law, mean, on

__all__ = ["ONE", "PROMPT", "Branch", "answer", "answers", "collect", "done", "every_path"]
__all__ += ["joint_law", "law", "mean", "on"]
