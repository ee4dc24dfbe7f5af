"""From a trained model to a smaller one in a folder: merge, remove units, round, write, check from outside."""
