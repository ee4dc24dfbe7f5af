"""What a target means before anything is trained: sizes, times, memory, methods' facts, model families. Without torch:
the only door of the web tier."""
