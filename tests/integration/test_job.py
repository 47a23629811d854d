"""A run submitted as a Ray job, with token authentication, against a head on this machine."""

import os
import secrets
import shutil
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from harness import ENVIRONMENT

REPOSITORY = Path(__file__).resolve().parents[2]
RAY = str(Path(sys.executable).parent / "ray")


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def head(tmp_path):
    """A Ray head of its own, behind a token; the environment of its clients."""
    dashboard = free_port()
    environment = {
        **ENVIRONMENT,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN": secrets.token_hex(32),
        # A job inherits the path of its head, and `tether` lies beside the interpreter.
        "PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}",
    }
    # Unix sockets need a short path.
    folder = Path("/tmp") / f"tether-head-{os.getpid()}"
    options = ["--head", "--block", f"--port={free_port()}", f"--dashboard-port={dashboard}", f"--temp-dir={folder}"]
    with (tmp_path / "head.log").open("w") as log:
        process = subprocess.Popen(
            [RAY, "start", *options, "--num-cpus=2", "--disable-usage-stats"],
            env=environment,
            stdout=log,
            stderr=log,
            start_new_session=True,
        )
    address = f"http://127.0.0.1:{dashboard}"
    try:
        deadline = time.monotonic() + 180
        # The agent that starts jobs comes up some time after the head.
        nothing = [RAY, "job", "submit", "--address", address, "--", "true"]
        while subprocess.run(nothing, env=environment, capture_output=True, timeout=120).returncode:
            assert time.monotonic() < deadline and process.poll() is None, (tmp_path / "head.log").read_text()
            time.sleep(1)
        yield address, environment
    finally:
        process.terminate()
        process.wait(timeout=60)
        shutil.rmtree(folder, ignore_errors=True)


def submit(address: str, environment: dict[str, str], *words: str) -> subprocess.CompletedProcess[str]:
    entrypoint = ["tether", *words]
    return subprocess.run(
        [RAY, "job", "submit", "--address", address, "--working-dir", ".", "--", *entrypoint],
        cwd=REPOSITORY,
        env=environment,
        capture_output=True,
        text=True,
        timeout=900,
    )


@pytest.mark.slow
def test_a_submitted_job_trains_and_a_relative_run_directory_is_refused(head, tmp_path):
    address, environment = head
    found = submit(
        address,
        environment,
        "train",
        "sft_tiny",
        "laptop",
        f"run.directory={tmp_path / 'runs'}",
        "run.steps=2",
        "run.max_seconds=0",
        "source.groups_per_step=2",
        "evaluation.after=false",
        "learner_group.engine=torch",
        "model.init.factory=small_parts:small_model",
    )
    assert found.returncode == 0, found.stdout + found.stderr
    assert "step 2/2" in found.stdout
    (run,) = (tmp_path / "runs").iterdir()
    assert (run / "checkpoints" / "step-000002" / "model.safetensors").is_file()

    refused = submit(address, environment, "train", "sft_tiny", "laptop", "run.directory=runs")
    assert refused.returncode != 0
    assert "run.directory: runs is relative" in refused.stdout + refused.stderr

    intruder = submit(address, {**environment, "RAY_AUTH_TOKEN": secrets.token_hex(32)}, "--version")
    assert intruder.returncode != 0
