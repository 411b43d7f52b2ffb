"""Laws measured on real models, beside the formulas that foretell them."""
