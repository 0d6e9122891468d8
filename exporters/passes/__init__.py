"""Rewrites of the graph, one a file. Each ``apply`` changes the model in place and says how often.

They run in the order that ``exporters.build`` gives; after each, parity with PyTorch is checked.
"""
