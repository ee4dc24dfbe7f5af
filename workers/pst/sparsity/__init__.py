"""Which weights stay: exact counts, thresholds over a group, 2:4, blocks, units; how sparsity and rates move."""
