from rl.cluster import shortage


def test_enough_resources_are_no_shortage():
    assert shortage({"CPU": 2, "GPU": 0}, {"CPU": 2.0}) == ""


def test_a_shortage_names_what_is_asked_for_and_what_there_is():
    line = shortage({"CPU": 2, "GPU": 8}, {"CPU": 64.0, "GPU": 1.0})
    assert "asks for 8 GPU, the Ray cluster has 1" in line
    assert "\n" not in line
