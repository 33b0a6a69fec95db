"""Programs of the benchmark ``selection``: each runs in a process of its own.

Those of the peers import nothing of Headrace.
"""
