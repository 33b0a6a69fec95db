"""Watching the ranks of a run: what each one does, who is behind, who is gone, who is slow.

:mod:`~headrace.training.watch.activity` is what the training code calls,
:mod:`~headrace.training.watch.files` is what ranks tell each other through the run folder,
:mod:`~headrace.training.watch.verdict` decides who is behind,
:mod:`~headrace.training.watch.watch` is the thread that does all this, and
:mod:`~headrace.training.watch.stragglers` compares the ranks' own times.
"""
