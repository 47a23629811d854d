"""Readers of public benchmarks: their files -> tasks. What their own metrics need lies in `Task.facts`."""

from __future__ import annotations

from collections.abc import Mapping
from importlib import import_module

from envs.benchmarks.types import Benchmark

BENCHMARKS: Mapping[str, str] = {
    name: f"envs.benchmarks.{name}:BENCHMARK"
    for name in (
        "bfcl",
        "when2call",
        "acebench",
        "functionchat",
        "rotbench",
        "toolalpaca",
        "seal_tools",
        "nestful",
        "metatool",
        "api_bank",
        "tooltalk",
        "relytoolbench",
        "stabletoolbench",
        "tau_bench",
    )
}
"""Import path of each reader, by the name users give; a reader is imported when it is asked for."""


def benchmark(name: str) -> Benchmark:
    """The reader called `name`.

    Raises:
        ValueError: there is none.
    """
    if name not in BENCHMARKS:
        raise ValueError(f"benchmark {name!r}: expected one of {', '.join(BENCHMARKS)}")
    module, attribute = BENCHMARKS[name].split(":")
    found = vars(import_module(module))[attribute]
    assert isinstance(found, Benchmark)
    return found
