"""Training of the models that Decant serves beside a frozen policy: rewards, guides, and the garden's small world."""
