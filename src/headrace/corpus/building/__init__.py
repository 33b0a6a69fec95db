"""Building a corpus: files to shards in parts, on any number of workers, to the same bytes."""
