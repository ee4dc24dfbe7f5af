"""How fast the sparse engine answers, against dense engines on the same machine, in one run."""
