"""Each task's own lines in a bundle's predict.py; they are copied, not imported."""
