"""What is learned: samples, algorithms, learners, the training loop and the command line."""
