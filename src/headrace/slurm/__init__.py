"""Runs under SLURM: submitting them, carrying them over time limits and faults, watching them.

Nothing here imports torch, except what a submission checks: it runs in batch scripts and on login
nodes.
"""
