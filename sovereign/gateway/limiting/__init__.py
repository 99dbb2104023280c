"""How much may be used: limits, budgets, turns, and what is left of them."""
