"""Takedown: documents are found, removed from a corpus and from all that was made of it, on record.

See docs/takedown.md.
"""
