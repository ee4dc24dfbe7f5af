"""What changes a job. Modules by noun; :mod:`jobs.services.moves` is the only writer of ``Job.state``."""
