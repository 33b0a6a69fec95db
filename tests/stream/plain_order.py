"""The order of the stream, written from docs/stream.md alone: slow, plain, without the library.

Nothing here imports Headrace or numpy.  Every step is taken one sample after the other, where the
library has closed forms.
"""

from __future__ import annotations

import hashlib
import heapq
import json
import math
from fractions import Fraction

BITS = 2**64
GOLDEN = 0x9E3779B97F4A7C15


def key_of(*parts):
    text = json.dumps(list(parts), ensure_ascii=True, separators=(",", ":"))
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=8).digest(), "little")


def mix(x):
    x = (x ^ (x >> 30)) * 0xBF58476D1CE4E5B9 % BITS
    x = (x ^ (x >> 27)) * 0x94D049BB133111EB % BITS
    return x ^ (x >> 31)


def numbered(key, number):
    return mix(mix(number * GOLDEN % BITS) ^ key)


def permuted(value, size, key):
    a = max(1, math.ceil(math.sqrt(size)))
    b = max(1, -(-size // a))
    while True:
        right, left = divmod(value, a)
        for r in range(10):
            k = mix((key + (r + 1) * GOLDEN) % BITS)
            if r % 2 == 0:
                left = (left + ((mix(right ^ k) >> 32) * a >> 32)) % a
            else:
                right = (right + ((mix(left ^ k) >> 32) * b >> 32)) % b
        value = right * a + left
        if value < size:
            return value


def whole_weights(weights):
    if all(isinstance(weight, int) for weight in weights):
        return list(weights)
    parts = [weight / max(weights) for weight in weights]
    total = math.fsum(parts)
    return [max(1, round(part / total * 2**32)) if part else 0 for part in parts]


def weights_of(sizes, phase):
    if phase.get("weights") is not None:
        return whole_weights(phase["weights"])
    temperature = phase.get("temperature", 1)
    if temperature == 1:
        return list(sizes)
    return whole_weights([(size / sum(sizes)) ** temperature for size in sizes])


def clipped(weights, phase):
    """Whole weights within the bounds of a phase, over the sources that are drawn from."""
    lows, highs = phase.get("min_shares"), phase.get("max_shares")
    if lows is None and highs is None:
        return weights
    drawn = [i for i, weight in enumerate(weights) if weight]
    low = {i: Fraction(str(lows[i] or 0)) if lows else Fraction(0) for i in drawn}
    high = {i: Fraction(str(highs[i] or 1)) if highs else Fraction(1) for i in drawn}
    if sum(high.values()) < 1:
        return [0] * len(weights)
    # Fix those that have to be clipped, one bound at a time, until the rest can share as it is.
    fixed = {}
    while True:
        free = [i for i in drawn if i not in fixed]
        left = 1 - sum(fixed.values())
        total = sum(weights[i] for i in free)
        shares = {i: left * Fraction(weights[i], total) for i in free}
        over = sum((max(0, share - high[i]) for i, share in shares.items()), Fraction(0))
        under = sum((max(0, low[i] - share) for i, share in shares.items()), Fraction(0))
        if not over and not under:
            break
        if over >= under:
            fixed.update({i: high[i] for i in free if shares[i] >= high[i]})
        if under >= over:
            fixed.update({i: low[i] for i in free if shares[i] <= low[i]})
    shares.update(fixed)
    scale = math.lcm(*(share.denominator for share in shares.values()))
    return [int(shares.get(i, 0) * scale) for i in range(len(weights))]


def tree_counts(weights, position):
    heap = [(weight, i) for i, weight in enumerate(weights) if weight]
    heapq.heapify(heap)
    children, following = {}, len(weights)
    while len(heap) > 1:
        first, second = heapq.heappop(heap), heapq.heappop(heap)
        children[following] = (first, second)
        heapq.heappush(heap, (first[0] + second[0], following))
        following += 1
    counts = [0] * len(weights)
    todo = [(heap[0][1], position)]
    while todo:
        node, c = todo.pop()
        if node in children:
            (w, first), (v, second) = children[node]
            t = w + v
            share = (2 * c * w + t) // (2 * t)
            todo += [(first, share), (second, c - share)]
        else:
            counts[node] = c
    return counts


class Order:
    """A stage; ``sources`` are (name, shard sizes), ``phases`` dicts with a ``start`` each."""

    def __init__(self, sources, seed, stage, phases, limits=None, block=1024, window=8):
        self.sources, self.seed, self.stage = sources, seed, stage
        self.phases, self.block, self.window = phases, block, window
        self.sizes = [sum(sizes) for _, sizes in sources]
        self.length = sum(self.sizes)
        self.limits = [
            None if limit is None else math.floor(Fraction(str(limit)) * size)
            for limit, size in zip(limits or [None] * len(sources), self.sizes, strict=True)
        ]
        self.rows = [[0] * len(sources)]
        self.end = None
        self.segment = None

    def counts(self, position):
        """Samples of each source before a position; None behind the end of the stage."""
        while len(self.rows) <= position and self.end is None:
            self.step()
        return self.rows[position] if position < len(self.rows) else None

    def step(self):
        """Draw one sample more."""
        position, drawn = len(self.rows) - 1, self.rows[-1]
        phase = max((p for p in self.phases if p["start"] <= position), key=lambda p: p["start"])
        full = [limit is not None and drawn[i] == limit for i, limit in enumerate(self.limits)]
        if self.segment is None or self.segment[0] != (phase["start"], full):
            weights = [
                0 if full[i] else weight for i, weight in enumerate(weights_of(self.sizes, phase))
            ]
            if any(weights):
                weights = clipped(weights, phase)
            if not any(weights):
                self.end = position
                return
            self.segment = ((phase["start"], full), weights, position, drawn)
        _, weights, start, base = self.segment
        more = tree_counts(weights, position + 1 - start)
        self.rows.append([a + b for a, b in zip(base, more, strict=True)])

    def find(self, epoch, position):
        """(source, shard, sample) at a position of an epoch."""
        offset = epoch * self.length
        number = position // self.block
        start = number * self.block
        stop = min(start + self.block, self.length)
        while self.counts(offset + stop) is None:
            stop = self.end - offset
        before, after = self.counts(offset + start), self.counts(offset + stop)
        blocks = -(-self.length // self.block)
        key = numbered(key_of("blocks", self.seed, self.stage), epoch * blocks + number)
        slot = permuted(position - start, stop - start, key)
        source = 0
        while slot >= after[source] - before[source]:
            slot -= after[source] - before[source]
            source += 1
        return source, *self.find_in_source(source, before[source] + slot)

    def find_in_source(self, source, drawn):
        name, sizes = self.sources[source]
        same = [other for other, _ in self.sources[:source]].count(name)
        number, place = divmod(drawn, self.sizes[source])
        identity = (self.seed, self.stage, name, same, number)
        shards = list(range(len(sizes)))
        if len(sizes) > self.window:
            key = key_of("shards", *identity)
            shards = [permuted(i, len(sizes), key) for i in shards]
        for window in range(-(-len(shards) // self.window)):
            members = shards[window * self.window : (window + 1) * self.window]
            size = sum(sizes[shard] for shard in members)
            if place < size:
                break
            place -= size
        place = permuted(place, size, numbered(key_of("samples", *identity), window))
        for shard in members:
            if place < sizes[shard]:
                return shard, place
            place -= sizes[shard]
        raise AssertionError("the place lies in the window")

    def windows(self, epoch, size):
        """The windows of an epoch: the key of each, and its samples in the order of positions."""
        key = key_of("batches", self.seed, self.stage)
        end = self.length
        while self.counts(epoch * self.length + end) is None:
            end = self.end - epoch * self.length
        for number, start in enumerate(range(0, end, size)):
            members = [self.find(epoch, p) for p in range(start, min(start + size, end))]
            yield key_of("window", key, epoch, number), members

    def groups(self, epoch, tokens, in_a_batch, window_batches, length_of, mean_length, group):
        """All groups of an epoch: batches by tokens, or packs."""
        batch = in_a_batch * max(1, tokens // mean_length)
        size = max(batch, min(window_batches * batch, 65536))
        found = []
        for window_key, members in self.windows(epoch, size):
            groups = group(members, tokens, length_of)
            count = len(groups)
            found += [groups[permuted(number, count, window_key)] for number in range(count)]
        return found

    def batches(self, epoch, batch_size, window_batches, length_of):
        """All batches of an epoch, each a list of (source, shard, sample)."""
        found = []
        for window_key, members in self.windows(epoch, batch_size * window_batches):
            members.sort(key=length_of)
            full, rest = divmod(len(members), batch_size)
            first = key_of("rest", window_key) % (full + 1) * batch_size
            small = members[first : first + rest]
            others = members[:first] + members[first + rest :]
            for batch in range(full):
                chosen = permuted(batch, full, window_key) * batch_size
                found.append(others[chosen : chosen + batch_size])
            if small:
                found.append(small)
        return found


def token_groups(members, tokens, length_of):
    """Groups of at most so many padded tokens, the shortest samples first."""
    members = sorted(members, key=length_of)

    def cut(budget):
        groups, left = [], list(members)
        while left:
            size = budget // length_of(left[-1])
            if size == 0:
                return None
            groups.append(left[-size:])
            left = left[:-size]
        return groups[::-1]

    fewest = len(cut(tokens))
    divisions = map(cut, range(1, tokens + 1))
    return next(groups for groups in divisions if groups is not None and len(groups) == fewest)


def packs(members, tokens, length_of):
    """Rows of at most so many tokens."""
    rows = []  # space, when it came to have it, samples
    for time, member in enumerate(sorted(members, key=lambda place: -length_of(place))):
        length = length_of(member)
        fitting = [row for row in rows if row[0] >= length]
        if fitting:
            row = min(fitting, key=lambda row: row[:2])
        else:
            row = [tokens, 0, []]
            rows.append(row)
        row[0] -= length
        row[1] = time
        row[2].append(member)
    return [row[2] for row in rows]
