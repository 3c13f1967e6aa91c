"""Causes: from exit codes, conditions, events and log tails to what went wrong, whose turn it is, and what to change.

Pure, and below the platforms and the pipeline, which both say here what they saw. What is known stands in tables of
cases (`tools`, `builders`, `images`, `apps`, `health`, `answers`, `cluster`): one row each, and one sample that was
really seen below `tests/unit/causes/`. Where no row fits, what was seen is told, and nothing is guessed.
"""
