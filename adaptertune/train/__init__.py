"""Training and evaluating one model; its checkpoints."""
