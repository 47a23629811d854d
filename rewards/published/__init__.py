"""Metrics of public benchmarks exactly as published, beside tether's own rates."""
