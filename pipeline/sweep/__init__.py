"""Sweeps: one recipe in many variants, and which of them is the best for a purpose."""
