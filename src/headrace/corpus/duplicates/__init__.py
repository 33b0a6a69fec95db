"""Documents that say the same: exact copies, near-copies, and which of them is kept.

Needs the extra ``corpus``.  docs/duplicates.md says what is found and at what cost.
"""
