"""The demo world: a small policy, a sentiment reward on its own backbone, and the prompts to try them on."""
