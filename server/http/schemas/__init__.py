"""The bodies of requests, as they are allowed to be."""
