"""What it was worth: pure functions of a trajectory."""
