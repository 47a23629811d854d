"""A grid of variants of one recipe, each with several seeds, and the table of what they came to."""
