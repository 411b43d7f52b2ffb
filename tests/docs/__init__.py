"""What the README and the pages under docs/ print is run, or is on a list that says why it is not."""
