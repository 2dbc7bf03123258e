"""How a winner is found: one file per family of heads."""
