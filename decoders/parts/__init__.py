"""What strategies are made of: drawing and scoring, the objective, choice rules, bounds, divergences."""
