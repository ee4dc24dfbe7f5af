"""How good sparse models are: tasks x methods x sparsities x seeds. ``python -m tests.benchmarks.quality --help``."""
