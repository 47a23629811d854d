"""What the policy sampled: engines, episodes and trajectories in token space."""
