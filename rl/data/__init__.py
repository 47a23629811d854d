"""What `tether data` does: records in, records out, each with where it comes from.

Imports neither torch nor ray, but for `explored`, which samples.
"""
