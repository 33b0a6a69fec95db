"""Programs that serve the samples of the benchmark ``stream``, one loader each.

``harness.py LOADER TASK`` runs one of them in whatever environment its packages are in.  They
import nothing of Headrace (but ``headrace_stream`` and ``headrace_encoded``, which are ours), and
nothing of each other.

A module of a loader has

``class Loader``
    ``Loader(task)`` makes the loader; iterating over it gives an epoch of shuffled batches, each a
    list of the payloads (``bytes``, or ``str`` where the loader decodes by itself).  Where the
    loader can resume, ``save() -> bytes`` and ``load(state)``.
``convert(tars, folder)``
    for loaders that do not read the tars as they are: makes what they read instead.
"""
