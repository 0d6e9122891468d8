"""What several tasks share: losses, heads, tokens, and scores.

A score is a function of the weights of the blocks that a bootstrap draws (rows, sentences, queries
or pairs); see ``formulas.py``. For whole weights it is the score of the data in which each block is
repeated that many times.
"""
