"""What is pruned: a layer for each method, put into a model and taken out again, and the kernels below."""
