"""Headrace: distributed training on text in many languages, from raw corpora to measured models."""

__version__ = "0.1.0"
