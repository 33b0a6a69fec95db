"""One open shard: samples by number, read through the index of the tar."""

from __future__ import annotations

from collections.abc import Iterator

from headrace.errors import Problem, ShardError
from headrace.shards import storage
from headrace.shards.index import ShardIndex, index_url, read_index
from headrace.shards.manifest import ShardEntry
from headrace.shards.sample import Sample
from headrace.shards.tars import MappedTar, RemoteTar, Tar


class Shard:
    """One open shard: a sequence of samples."""

    def __init__(self, url: str, entry: ShardEntry, *, verify: bool = True) -> None:
        self.name = entry.name
        tar_url = storage.join(url, entry.name)
        self.index = read_index(tar_url)
        check_index(self.index, entry, index_url(tar_url))
        blocks = self.index.block_hashes.tolist() if verify else None
        source = MappedTar if storage.is_local(url) else RemoteTar
        self._tar: Tar = source(tar_url, entry, blocks)
        self._names = self.index.field_names
        self._starts: list[int] = self.index.member_starts.tolist()
        self._begins: list[int] = self.index.member_offsets.tolist()
        self._ends: list[int] = (self.index.member_offsets + self.index.member_sizes).tolist()
        self._fields: list[int] = self.index.member_fields.tolist()

    def __len__(self) -> int:
        return len(self.index)

    @property
    def keys(self) -> list[str]:
        """The keys of the samples in order."""
        return self.index.keys

    def __getitem__(self, number: int) -> Sample:
        """Sample ``number``, counted from 0; :class:`ShardError` if its bytes are not intact."""
        if number < 0:
            number += len(self)
        if not 0 <= number < len(self):
            raise IndexError(f"sample {number} of {len(self)} in {self.name}")
        read, begins, ends = self._tar.read, self._begins, self._ends
        names, fields = self._names, self._fields
        return Sample(
            self.keys[number],
            {
                names[fields[member]]: read(begins[member], ends[member])
                for member in range(self._starts[number], self._starts[number + 1])
            },
        )

    def __iter__(self) -> Iterator[Sample]:
        for number in range(len(self)):
            yield self[number]

    def close(self) -> None:
        """Let go of the file."""
        self._tar.close()


def check_index(index: ShardIndex, entry: ShardEntry, where: str) -> None:
    """Raise :class:`ShardError` if the index is not of the very tar that the manifest pins."""
    pairs = [
        ("hash of the tar", index.tar_hash, entry.hash),
        ("size of the tar", index.tar_bytes, entry.bytes),
        ("number of samples", len(index), entry.samples),
    ]
    problems = [
        Problem(
            f"the index and the manifest differ in the {name}",
            where,
            f"{found}, the manifest says {wanted}",
            "Make both again with: headrace index URL --rebuild",
        )
        for name, found, wanted in pairs
        if found != wanted
    ]
    if problems:
        raise ShardError(problems)
