import os
import socket

import pytest
import ray

from rl.cluster import check_resources, expect_answer, shortage
from rl.config import Ray
from rl.errors import BadInput


@pytest.fixture
def listening():
    """The address of something that accepts connections and is no Ray cluster."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def test_enough_resources_are_no_shortage():
    assert shortage({"CPU": 2, "GPU": 0}, {"CPU": 2.0}) == ""


def test_a_shortage_names_what_is_asked_for_and_what_there_is():
    line = shortage({"CPU": 2, "GPU": 8}, {"CPU": 64.0, "GPU": 1.0})
    assert "asks for 8 GPU, the Ray cluster has 1" in line
    assert "\n" not in line


def test_an_address_where_nobody_listens_is_one_line(monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = f"127.0.0.1:{server.getsockname()[1]}"
    monkeypatch.setenv("RAY_ADDRESS", address)
    with pytest.raises(BadInput, match=f"nothing answers at RAY_ADDRESS {address}: .*refused") as caught:
        check_resources(Ray(), {"CPU": 1})
    assert "\n" not in str(caught.value)


def test_only_host_and_port_are_tried(listening):
    expect_answer(listening)
    expect_answer(f"ray://{listening}")
    expect_answer("auto")
    expect_answer("")


def test_a_token_that_the_cluster_does_not_take_is_named(listening, monkeypatch, capfd):
    def init(**_):
        os.write(2, b"gcs_client.cc:210: Unauthenticated: RPC error: InvalidAuthToken\n")
        raise ConnectionError("Failed to connect")

    monkeypatch.setattr(ray, "init", init)
    monkeypatch.setenv("RAY_ADDRESS", listening)
    with pytest.raises(BadInput, match=r"Failed to connect .InvalidAuthToken: .*RAY_AUTH_TOKEN"):
        check_resources(Ray(), {"CPU": 1})
    assert capfd.readouterr().err == ""
