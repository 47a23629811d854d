from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

FOLDER = Path(__file__).resolve().parent
ROOT = FOLDER.parent.parent


@pytest.fixture(scope="module")
def targets() -> Any:
    sys.path.insert(0, str(FOLDER))
    try:
        import targets
    finally:
        sys.path.remove(str(FOLDER))
    return targets


@pytest.mark.parametrize(("name", "num"), [("parse", 1000), ("schema", 1000), ("score", 300)])
def test_no_bytes_make_a_target_raise(targets, name, num):
    @settings(max_examples=num, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.binary(max_size=200))
    def run(data: bytes) -> None:
        targets.TARGETS[name](data)

    run()


def test_most_of_the_records_that_are_made_can_be_scored(targets):
    from rl.scoring import BadRecord, recorded_reply

    num = 0
    for seed in range(200):
        data = b"".join((seed * 7919 + index * 104729).to_bytes(4, "big")[1:3] for index in range(100))
        try:
            recorded_reply(targets.Source(data).record())
            num += 1
        except BadRecord:
            pass
    assert num > 50


@pytest.mark.slow
@pytest.mark.parametrize("name", ["parse", "schema", "score"])
def test_atheris_finds_nothing(tmp_path, name):
    pytest.importorskip("atheris")
    words = [sys.executable, str(FOLDER / "harness.py"), name, "-runs=5000", "-timeout=60", "-max_len=400"]
    environment = os.environ | {"PYTHONPATH": os.pathsep.join([str(ROOT), *sys.path])}
    found = subprocess.run(words, capture_output=True, text=True, cwd=tmp_path, env=environment)
    assert found.returncode == 0, found.stderr[-3000:]
