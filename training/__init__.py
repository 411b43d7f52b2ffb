"""Training of what Decant serves beside a frozen policy: reward models and, later, guides."""
