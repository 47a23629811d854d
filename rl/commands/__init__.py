"""The commands of `tether`, one module each: `add` describes the arguments, `run` does the work.

Modules import what is heavy inside `run`, so that help costs nothing.
"""
