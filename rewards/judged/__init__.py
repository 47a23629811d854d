"""What a benchmark's metric leaves to an LLM judge: the questions, and the figures that the answers give."""
