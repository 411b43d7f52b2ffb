"""What a search gains for what it costs, replayed on completions that were drawn and scored once."""
