"""Graph rewrites, one per file. Each ``apply`` changes the model in place and returns a count.

``rarefy.exporters.build`` defines their order and checks parity with PyTorch.
"""
