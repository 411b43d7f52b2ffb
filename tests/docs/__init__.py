"""Every example in the README and under docs/ is run, or is on a list with the reason why it is not."""
