"""From shards to encoded sidecars: tokenizers, word alignment, memory-mapped arrays, batches."""
