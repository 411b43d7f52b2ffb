"""A garden helpdesk: a world small enough to train in minutes, with exact scores for what is said in it."""
