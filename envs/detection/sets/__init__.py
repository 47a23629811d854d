"""Responses with known labels: public data sets, sets that are made from a seed, and programs that are mutated."""
