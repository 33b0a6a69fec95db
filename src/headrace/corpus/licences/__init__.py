"""Licences and terms: under what a document may be used, as SPDX, and what the recipe makes of it.

Needs the extra ``corpus``.  docs/licences.md has the rules.
"""
