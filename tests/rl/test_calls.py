import pytest

from rl.calls import CALLS_NAME, recorded


class Watched:
    def __init__(self, peak_gb: float) -> None:
        self.peak_gb = peak_gb


def test_a_run_that_was_interrupted_and_resumed_counts_both_calls(tmp_path):
    with pytest.raises(KeyboardInterrupt), recorded(tmp_path, Watched(7.0)):
        raise KeyboardInterrupt
    (tmp_path / CALLS_NAME).write_text('{"seconds": 100.0, "peak_memory_gb": 7.0}\n')
    with recorded(tmp_path, Watched(5.0)) as call:
        used = call.used()
    assert 100.0 <= used.seconds < 200.0
    assert used.peak_memory_gb == 7.0
    assert len((tmp_path / CALLS_NAME).read_text().splitlines()) == 2


def test_the_first_call_of_a_run_counts_alone(tmp_path):
    with recorded(tmp_path, Watched(5.0)) as call:
        assert call.used().peak_memory_gb == 5.0
        assert call.used().seconds < 100.0
