"""Speed against what one would use instead: `python -m evaluation.speed`."""
