"""HaluAgent (arXiv 2406.11277): find the hallucinations of a text with tools, in English and Chinese."""
