"""Forgetting: sequences of tasks, what is kept of the earlier ones, and methods that keep more."""
