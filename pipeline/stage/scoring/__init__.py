"""Scores of the tasks with more than one label a row, one family per file.

A score is a function of the weights of the blocks that a bootstrap draws (rows, sentences, queries
or pairs); see ``pipeline/tasks/shared/formulas.py``. For whole weights it is the score of the data
in
which each block is repeated that many times.
"""
