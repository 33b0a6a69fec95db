"""Programs of the benchmark ``build``: each builds a corpus in a process of its own.

Those of the peers import nothing of Headrace.
"""
