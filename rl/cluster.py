"""The one place that starts or joins Ray, and that compares what a run asks for with what there is."""

from __future__ import annotations

import logging
import os
import secrets
import shutil
import socket
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import ray
from ray.exceptions import AuthenticationError

from rl.config import Ray, in_submitted_job
from rl.errors import BadInput

logger = logging.getLogger(__name__)

_ANSWER_SECONDS = 2.0
"""How long a named cluster may take to accept a connection."""

_OBJECT_STORE_BYTES = 512 << 20
"""Of a local Ray: what passes through are trajectories of some kilobytes."""


@contextmanager
def connected(config: Ray, required: Mapping[str, float], log_directory: Path) -> Iterator[None]:
    """A Ray cluster with at least the resources `required`, joined or started, and left again.

    A cluster is joined where one is named (RAY_ADDRESS), inside a submitted job, or if the cluster file says
    `ray.join`. Otherwise a local one is started, for this process only, and stopped afterwards.

    Args:
        config: the cluster file's section.
        required: amounts by resource name, such as {"CPU": 3, "GPU": 1}.
        log_directory: where the logs of a local cluster's processes go.

    Raises:
        BadInput: no cluster answers, or it lacks the resources.
    """
    joins = is_joined(config)
    if joins:
        _join()
    else:
        _refuse(shortage(required, local_resources(config)))
        _start(config)
    try:
        _wait_for(required, wait_seconds=config.wait_seconds)
        yield
    finally:
        # The processes still write their last lines, so the logs are copied after they have ended.
        session_logs = None if joins else _session_logs()
        ray.shutdown()
        if session_logs is not None:
            _keep_logs(session_logs, log_directory)


def check_resources(config: Ray, required: Mapping[str, float]) -> None:
    """Refuse a run for which there are too few resources, without starting anything.

    Raises:
        BadInput: naming the first resource that is short, or that no cluster answers.
    """
    if not is_joined(config):
        _refuse(shortage(required, local_resources(config)))
        return
    _join()
    try:
        if not config.wait_seconds:
            _wait_for(required, wait_seconds=0.0)
    finally:
        ray.shutdown()


def is_joined(config: Ray) -> bool:
    """Whether the run joins a cluster: one that is named, that of a submitted job, or if the cluster file says so."""
    return config.join or in_submitted_job() or bool(os.environ.get("RAY_ADDRESS"))


def why_foreign(config: Ray, required: Mapping[str, float]) -> str:
    """Why a run that needs accelerators cannot be meant for this machine; "" if it can be."""
    if not required.get("GPU") or local_resources(config)["GPU"]:
        return ""
    if not is_joined(config):
        return "this machine has none"
    if in_submitted_job() or os.environ.get("RAY_ADDRESS"):
        return ""
    try:
        _join()
    except BadInput:
        return "this machine has none and belongs to no Ray cluster"
    ray.shutdown()
    return ""


def local_resources(config: Ray) -> dict[str, float]:
    """What a Ray started on this machine would have."""
    from ray._private.accelerators import get_accelerator_manager_for_resource

    manager = get_accelerator_manager_for_resource("GPU")
    gpus = manager.get_current_node_num_accelerators() if manager else 0
    return {"CPU": float(config.num_cpus or os.cpu_count() or 1), "GPU": float(gpus)}


def _wait_for(required: Mapping[str, float], *, wait_seconds: float) -> None:
    """Wait for the cluster to grow to what is asked for."""
    deadline = time.monotonic() + wait_seconds
    while short := shortage(required, ray.cluster_resources()):
        if time.monotonic() >= deadline:
            raise BadInput(short)
        time.sleep(1.0)


def _refuse(short: str) -> None:
    if short:
        raise BadInput(short)


def shortage(required: Mapping[str, float], available: Mapping[str, float]) -> str:
    """A line that names the first resource of which there is too little; "" if there is enough."""
    for name, amount in required.items():
        if amount > available.get(name, 0.0):
            return (
                f"the run asks for {amount:g} {name}, the Ray cluster has {available.get(name, 0.0):g}; "
                "choose another cluster file or lower its numbers of ranks and workers"
            )
    return ""


def _join() -> None:
    expect_answer(os.environ.get("RAY_ADDRESS", ""))
    with tempfile.TemporaryFile() as said:
        try:
            with _stderr_to(said):
                ray.init(address="auto", log_to_driver=False, logging_level=logging.ERROR)
        except (ConnectionError, AuthenticationError, TimeoutError) as error:
            line = str(error).strip().splitlines()[0]
            said.seek(0)
            # Ray raises the same error for a wrong token as for no answer, and says the reason on stderr only.
            if b"InvalidAuthToken" in said.read():
                line += (
                    " (InvalidAuthToken: the authentication token is missing or incorrect; "
                    "set RAY_AUTH_TOKEN or RAY_AUTH_TOKEN_PATH to the cluster's)"
                )
            raise BadInput(f"no Ray cluster to join: {line}") from error


def expect_answer(address: str) -> None:
    """Refuse an address where nobody listens, which Ray itself would try for long.

    Args:
        address: host:port, with or without ray://; anything else is left to Ray.

    Raises:
        BadInput: nothing answers there.
    """
    host, _, port = address.removeprefix("ray://").rpartition(":")
    if not host or not port.isdigit():
        return
    try:
        socket.create_connection((host.strip("[]"), int(port)), timeout=_ANSWER_SECONDS).close()
    except (OSError, OverflowError) as error:
        raise BadInput(f"no Ray cluster to join: nothing answers at RAY_ADDRESS {address}: {error}") from error


@contextmanager
def _stderr_to(file: IO[bytes]) -> Iterator[None]:
    """Send to `file` what native code writes to stderr."""
    sys.stderr.flush()
    kept = os.dup(2)
    try:
        os.dup2(file.fileno(), 2)
        yield
    finally:
        os.dup2(kept, 2)
        os.close(kept)


def _start(config: Ray) -> None:
    """Start Ray on this machine, closed to everybody who does not hold the token of this run."""
    # Ray 2.60 asks for a token by default; without one of ours it would write one into the home directory.
    if "RAY_AUTH_TOKEN_PATH" not in os.environ:
        os.environ.setdefault("RAY_AUTH_TOKEN", secrets.token_hex(32))
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    ray.init(
        address="local",
        num_cpus=config.num_cpus or None,
        include_dashboard=False,
        log_to_driver=False,
        logging_level=logging.ERROR,
        object_store_memory=_OBJECT_STORE_BYTES,
    )


def _session_logs() -> Path:
    from ray._private.worker import global_worker

    node = global_worker.node
    assert node is not None
    return Path(node.get_logs_dir_path())


def _keep_logs(session_logs: Path, log_directory: Path) -> None:
    """Copy what the processes wrote; empty files are left out."""
    target = log_directory / "ray"
    for path in session_logs.glob("*.*"):
        if path.is_file() and path.stat().st_size:
            target.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target / path.name)
