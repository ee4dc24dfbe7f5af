"""The loop and what it stands on: a step, captured graphs, several processes, checkpoints, the dense teacher."""
