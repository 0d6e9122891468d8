"""The vocabulary that all other packages share: errors, quantities, metrics, budgets."""
