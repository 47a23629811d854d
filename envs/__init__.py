"""What happens: tasks, tools, environments. Message space only; no tokens, no torch, no Ray."""
