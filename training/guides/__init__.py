"""The demo's guides: autoregressive reward models as low-rank adapters of the policy, from its own rollouts."""
