"""Raw documents to shards: readers of corpus formats, and the build that writes a source."""
