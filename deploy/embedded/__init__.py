"""The whole platform on one machine with nothing installed: services from PyPI packages, one process each."""
