"""The format on disk: tar shards with an offset index and a manifest, written, read, verified."""

from headrace.shards.cache import ShardCache
from headrace.shards.index import ShardIndex, build_index
from headrace.shards.manifest import Manifest, ShardEntry, read_manifest, write_manifest
from headrace.shards.reader import ShardReader
from headrace.shards.retry import RetryPolicy
from headrace.shards.sample import Sample
from headrace.shards.shard import Shard
from headrace.shards.writer import ShardWriter

__all__ = [
    "Manifest",
    "RetryPolicy",
    "Sample",
    "Shard",
    "ShardCache",
    "ShardEntry",
    "ShardIndex",
    "ShardReader",
    "ShardWriter",
    "build_index",
    "read_manifest",
    "write_manifest",
]
