"""The words that everything else is said in: errors, quantities, metrics, budgets."""
