"""The REST API of jobs: for people, and for workers in :mod:`jobs.api.worker`."""
