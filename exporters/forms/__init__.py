"""A bundle in the form that a tool expects which serves models, one form a file."""
