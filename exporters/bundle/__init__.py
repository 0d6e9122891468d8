"""The files of a bundle: ``files`` writes them, and the others are copied into it as they are."""
