"""A garden helpdesk: a world small enough to train in minutes, in which every answer has an exact gold score."""
