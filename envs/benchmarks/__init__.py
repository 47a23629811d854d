"""Readers of public benchmarks: their files -> tasks. What their own metrics need lies in `Task.facts`."""
