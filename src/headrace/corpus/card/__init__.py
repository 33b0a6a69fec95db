"""The card of a corpus: what people have to say about it, with numbers from its index."""
