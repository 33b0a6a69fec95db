"""One module a command; see :mod:`headrace.cli` for how they are found."""
