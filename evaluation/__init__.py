"""Measurements: speed against vLLM, measured laws against their formulas, and what replayed searches gain and cost."""
