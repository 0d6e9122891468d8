"""What input may be at most, so that no file of others takes the machine's memory or time.

Each is far beyond what honest data and models have; docs/explanation/security.md lists them.
"""

from __future__ import annotations

from typing import Final

LINE: Final = 1 << 27
"""Bytes of one line of JSON: 128 MiB."""
EXPANDED: Final = 1 << 26
"""Bytes that a compressed file may have in any case: 64 MiB."""
RATIO: Final = 100
"""How many times its size a compressed file may have beyond that; text has 3 to 20 times."""
BATCH: Final = 1 << 28
"""Bytes of the rows of a Parquet file that are read at once: 256 MiB."""
ROWS_A_BYTE: Final = 16
"""Rows of a Parquet file for each of its bytes."""
COLUMNS: Final = 10_000
"""Columns of a CSV or TSV file."""
LABELS: Final = 100_000
"""Labels of a task or a model's head."""
LAYERS: Final = 1000
"""Layers of a model."""
WIDTH: Final = 1_000_000
"""A model's hidden size, heads, neurons of a layer, types of tokens."""
TOKENS: Final = 10_000_000
"""A model's vocabulary, its positions, and the tokens that a bundle reads."""
SPARE: Final = 100_000_000
"""Numbers that a config may ask for in any case, whatever the weights hold."""
BEYOND: Final = 4
"""How many times the numbers in its weights a config may ask for beyond that."""
BEYOND_PRUNED: Final = 100
"""The same of a model that was pruned, whose config names the sizes from before."""
GROWTH: Final = 1000
"""How many characters a tokenizer's normalizer may make of one."""
OUTPUTS: Final = 100_000_000
"""Numbers that a graph gives in one call."""
