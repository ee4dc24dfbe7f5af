"""The GPU worker: takes jobs from the platform and runs each in a child process of its own.

The parent never imports torch, so a job's memory is freed with its process and a child can be killed at any time.
"""
