"""The memory of a rank at every moment of a step, with the formula of each part.

This follows what DeepSpeed 0.19 allocates: its ZeRO optimizers hold more than the three
quantities of the ZeRO paper (Rajbhandari et al. 2020), among them a second copy of the gradients
at the optimizer's step, buckets, and, in fp32 too, a copy of the weights that the optimizer
changes.  In the formulas N is the number of all parameters, T of those that are trained, R the
number of ranks, L the largest trained parameter, T1 the largest group of the optimizer.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from headrace.planning.activations import MicroBatch, Stretch
from headrace.planning.setup import Setup, Sizes

ACTIVATIONS = "activations"
"""Name of the part that the trace of a micro-batch gives."""
_ALLREDUCE_ELEMENTS = 500_000_000
"""Gradients that DeepSpeed reduces at once without ZeRO."""


@dataclass(frozen=True)
class Part:
    """Something that takes memory."""

    name: str
    bytes: int
    formula: str
    """How the bytes follow from numbers of the network and the run."""


@dataclass(frozen=True)
class Moment:
    """A moment of a step, and what is in memory then."""

    name: str
    parts: tuple[Part, ...]

    @property
    def bytes(self) -> int:
        """All parts together."""
        return sum(part.bytes for part in self.parts)


@dataclass(frozen=True)
class Memory:
    """What a rank needs."""

    moments: tuple[Moment, ...]
    """On its device."""
    activations: int
    """Most bytes of activations at once."""
    host: tuple[Part, ...]
    """In the memory of the node, for offloading; not what the process takes by itself."""
    disk: tuple[Part, ...] = ()
    """On NVMe."""

    @property
    def peak(self) -> Moment:
        """The moment at which the device holds most."""
        return max(self.moments, key=lambda moment: moment.bytes)

    @property
    def states(self) -> int:
        """Most bytes on the device at once beside activations; those may come at another moment."""
        return max(
            sum(part.bytes for part in moment.parts if part.name != ACTIVATIONS)
            for moment in self.moments
        )

    @property
    def host_bytes(self) -> int:
        """Memory of the node for one rank."""
        return sum(part.bytes for part in self.host)


def memory_of_rank(sizes: Sizes, setup: Setup, batch: MicroBatch) -> Memory:
    """Return what a rank needs to train.

    Args:
        sizes: parameters of the network.
        setup: precision, optimizer, ZeRO stage, ranks, buffers, offloading.
        batch: activations of a micro-batch, traced in the same precision.
    """
    if setup.stage == 0:
        return _without_zero(sizes, setup, batch)
    if setup.stage < 3:
        return _divided_states(sizes, setup, batch)
    return _divided_weights(sizes, setup, batch)


def _part(name: str, numbers: float, each: int, formula: str) -> Part:
    return Part(name, round(numbers * each), f"{each} x {formula}")


def _peak_of(name: str, moments: Iterable[Sequence[Part]]) -> Moment:
    """The largest of several moments of one kind."""
    found = [Moment(name, tuple(part for part in parts if part.bytes)) for parts in moments]
    return max(found, key=lambda moment: moment.bytes)


def _states(sizes: Sizes, setup: Setup) -> list[Part]:
    """Master weights and moments of the optimizer, as much as a rank has of them."""
    share = sizes.trained / setup.divided
    by = "T/R" if setup.divided > 1 else "T"
    parts = [_part("optimizer states", share * setup.moments, 4, f"{setup.moments} x {by}")]
    if setup.stage >= 1:
        parts.insert(0, _part("weights of the optimizer", share, 4, by))
    elif setup.precision != "fp32":
        parts.insert(0, _part("weights of the optimizer", sizes.trained, 4, "T"))
    return parts


def _activations(number: int, batch: MicroBatch) -> Part:
    return Part(
        ACTIVATIONS,
        number,
        f"traced: {batch.rows} x {batch.length} tokens, {batch.kept / batch.rows / 1e6:,.1f} MB a "
        "row kept for the backward pass",
    )


def _of_optimizer(setup: Setup, numbers: float, what: str) -> list[Part]:
    """Arrays that PyTorch's optimizers make beside; DeepSpeed's compute in place."""
    if setup.fused or not setup.moments:
        return []
    return [_part("arrays of the optimizer's step", 2 * numbers, 4, f"2 x {what}")]


def _without_zero(sizes: Sizes, setup: Setup, batch: MicroBatch) -> Memory:
    width, trained = setup.weight_bytes, sizes.trained
    states = [_part("weights", sizes.all, width, "N"), *_states(sizes, setup)]
    gradients = _part("gradients", trained, width, "T")
    left = _activations(batch.left, batch)
    backward = [
        [
            *states,
            gradients
            if setup.accumulation > 1
            else _part("gradients", stretch.gradients, width, "finished gradients"),
            _activations(stretch.activations, batch),
        ]
        for stretch in batch.stretches
    ]
    bucket = min(trained, _ALLREDUCE_ELEMENTS)
    reduction = [*states, gradients, left, _part("bucket", bucket, width, "min(T, 5e8)")]
    if setup.precision == "fp32":
        step = [*states, gradients, left, *_of_optimizer(setup, sizes.largest, "L")]
        steps = [step]
        start = [_part("weights", sizes.all, width, "N")]
    else:
        whole = _part("fp32 gradients", trained, 4, "T")
        steps = [[*states, left, gradients, whole, *_of_optimizer(setup, sizes.largest, "L")]]
        if setup.fused:
            # copies of one group after the other, then each flattened
            lists = _part("fp32 gradients, one by one", sizes.largest_group, 4, "T1")
            steps = [[*states, left, gradients, whole, lists]]
        copies = _part("copies of the weights", sizes.largest_group, 2 * width, "T1")
        start = [*states, copies]
    return Memory(
        (
            _peak_of("start", [start]),
            _peak_of("forward and backward", backward),
            _peak_of("reduction of gradients", [reduction]),
            _peak_of("optimizer step", steps),
        ),
        batch.most,
        (),
    )


def _divided_states(sizes: Sizes, setup: Setup, batch: MicroBatch) -> Memory:
    """ZeRO 1 and 2: the states of the optimizer are divided; 2 keeps its own gradients alone."""
    width, trained, ranks = setup.weight_bytes, sizes.trained, setup.ranks
    offloads = setup.offload_optimizer is not None
    weights = _part("weights", sizes.all, width, "N")
    states = [weights, *([] if offloads else _states(sizes, setup))]
    if offloads:
        states.append(_part("buffer for gradients", sizes.largest, width, "L"))
    left = _activations(batch.left, batch)
    gradients = _part("gradients", trained, width, "T")
    own_numbers = 0.0 if offloads else trained / ranks
    kept = 2 if setup.stage == 2 and setup.accumulation > 1 else 1
    own = _part("own gradients", kept * own_numbers, width, f"{kept} x T/R")
    buckets = _buckets(sizes, setup)
    backward = [[*states, _activations(batch.stretches[0].activations, batch)]]
    if setup.accumulation > 1 and not offloads:
        earlier = (
            gradients if setup.stage == 1 else _part("own gradients", own_numbers, width, "T/R")
        )
        backward[0].append(earlier)
    for stretch, size in _after_gradients(batch):
        finished = _part("gradients", stretch.gradients, width, "finished gradients")
        if setup.stage == 1 and setup.accumulation > 1:
            finished = gradients
        held = [finished]
        if setup.stage == 2:
            held = _waiting(stretch, size, sizes, setup)
            if setup.accumulation > 1 or stretch.gradients >= min(
                setup.reduce_bucket_size, trained
            ):
                held.append(own)
        backward.append([*states, *held, *buckets, _activations(stretch.activations, batch)])
    # the largest gradient is sent alone if the bucket has no room for it
    most = max(min(setup.reduce_bucket_size, trained), sizes.largest) if ranks > 1 else 0
    formula = "max(min(reduce_bucket_size, T), L)"
    sent = _part("copy that is sent", most, width, formula)
    reduction = [*states, left, *buckets, own, sent]
    if setup.stage == 1:
        reduction.append(gradients)
    largest = sizes.largest_group / ranks
    flat = _part("flat gradients", largest, width, "T1/R")
    steps = [[*states, left, own]]
    if not offloads:
        steps.append([*states, left, own, flat, *_of_optimizer(setup, largest, "T1/R")])
        if setup.precision != "fp32":
            wide = _part("fp32 gradients", largest, 4, "T1/R")
            steps[-1] = [*states, left, own, flat, wide]
            steps.append([*states, left, own, wide, *_of_optimizer(setup, largest, "T1/R")])
    copied = _part("copy of the weights", sizes.largest_group, width, "T1")
    return Memory(
        (
            _peak_of("start", [[*states, copied]]),
            _peak_of("forward and backward", backward),
            _peak_of("reduction of gradients", [reduction]),
            _peak_of("optimizer step", steps),
            _peak_of("weights from the other ranks", [[*states, *_gloo(setup, sizes, trained)]]),
        ),
        batch.most,
        _host(sizes, setup),
        _disk(sizes, setup),
    )


def _divided_weights(sizes: Sizes, setup: Setup, batch: MicroBatch) -> Memory:
    """ZeRO 3: each rank keeps a share of the weights, and gathers what it computes with."""
    width, ranks = setup.weight_bytes, setup.ranks
    offloads = setup.offload_optimizer is not None
    share = sizes.trained / ranks
    small = sizes.smaller_than(setup.param_persistence_threshold)
    states: list[Part] = []
    if setup.offload_param is None:
        states.append(_part("share of the weights", sizes.all / ranks, width, "N/R"))
    if setup.second_share_ranks > 1:
        second = sizes.all / setup.second_share_ranks
        states.append(_part("share within the node", second, width, "N/zero_hpz_partition_size"))
    states.append(
        _part(
            "small weights, whole",
            small,
            width,
            f"weights of fewer than {setup.param_persistence_threshold:,} numbers",
        )
    )
    if not offloads:
        states += _states(sizes, setup)
        states.append(_part("own gradients", share, width, "T/R"))
    bucket = min(setup.reduce_bucket_size, sizes.trained if setup.kind == "cpu" else 1 << 60)
    states.append(_part("bucket", bucket, width, "reduce_bucket_size"))
    live = min(
        sizes.all - small,
        setup.max_live_parameters,
        setup.max_reuse_distance // 2 + setup.prefetch_bucket_size + sizes.largest,
    )
    gathered = _part(
        "gathered weights", live, width, "min(N, max_live_parameters, max_reuse_distance/2 + ...)"
    )
    ahead = min(max(setup.prefetch_bucket_size, sizes.largest), live) if ranks > 1 else 0
    flat = _part(
        "weights as they arrive", ahead, width, "min(max(prefetch_bucket_size, L), gathered)"
    )
    again = flat if live < sizes.all - small else Part("weights as they arrive", 0, "")
    left = _activations(batch.left, batch)
    forward = [*states, gathered, flat, _activations(batch.before_last_weight, batch)]
    first = batch.stretches[0]
    backward = [[*states, gathered, again, _activations(first.activations, batch)]]
    backward += [
        [
            *(*states, gathered, again, *_waiting(stretch, size, sizes, setup)),
            _activations(stretch.activations, batch),
        ]
        for stretch, size in _after_gradients(batch)
    ]
    group = min(sizes.largest_group, setup.sub_group_size * ranks) / ranks
    wide = _part("flat fp32 gradients", group, 4, "T1/R")
    steps = [[*states, left]]
    if not offloads:
        narrow = _part("flat gradients", group if width == 2 else 0, width, "T1/R")
        steps += [
            [*states, left, narrow, wide],
            [*states, left, wide, *_of_optimizer(setup, group, "T1/R")],
        ]
    whole = _part("whole network before it is divided", sizes.all, width, "N")
    start = [whole, _part("share of the weights", 2 * sizes.all / ranks, width, "2 x N/R")]
    return Memory(
        (
            _peak_of("start", [start]),
            _peak_of("forward", [forward, [*states, flat, *_gloo(setup, sizes, ahead)]]),
            _peak_of("backward", backward),
            _peak_of("optimizer step", steps),
        ),
        batch.most,
        _host(sizes, setup),
        _disk(sizes, setup),
    )


def _buckets(sizes: Sizes, setup: Setup) -> list[Part]:
    """What gradients are collected in until they are sent."""
    if not setup.contiguous_gradients:
        return []
    # memory of the CPU is not taken before it is written to, that of a GPU is
    size = setup.reduce_bucket_size
    if setup.kind == "cpu":
        size = min(size, sizes.trained)
    count = 2 if setup.overlap_comm else 1
    return [_part("buckets", count * size, setup.weight_bytes, f"{count} x reduce_bucket_size")]


def _waiting(stretch: Stretch, finished: int, sizes: Sizes, setup: Setup) -> list[Part]:
    """A gradient that has just been finished, until it is sent, and the copy that is sent.

    Nothing is sent before the bucket is full.  A gradient that it has no room for stays as it is,
    and is sent alone.
    """
    width, ranks = setup.weight_bytes, setup.ranks
    filled = min(setup.reduce_bucket_size, sizes.trained)
    if finished <= setup.reduce_bucket_size:
        is_full = stretch.gradients >= filled
        copied = filled if ranks > 1 and is_full else 0
        return [_part("copy that is sent", copied, width, "min(reduce_bucket_size, T)")]
    # ZeRO 3 sends a gradient alone as it is if it can be divided; gloo copies it all the same
    as_it_is = setup.stage == 3 and finished % ranks == 0 and setup.kind == "cuda"
    copied = 0 if ranks == 1 or as_it_is else finished
    return [
        _part("gradient larger than a bucket", finished, width, f"{finished:,} numbers"),
        _part("copy that is sent", copied, width, f"{finished:,} numbers"),
    ]


def _after_gradients(batch: MicroBatch) -> Iterator[tuple[Stretch, int]]:
    """Each stretch but the first, with the numbers in the gradient that was finished before it."""
    for before, stretch in pairwise(batch.stretches):
        yield stretch, stretch.gradients - before.gradients


def _gloo(setup: Setup, sizes: Sizes, numbers: float) -> list[Part]:
    """The copy that gloo makes of what it gathers; NCCL makes none."""
    if setup.kind != "cpu" or setup.ranks == 1:
        return []
    largest = min(numbers, sizes.largest_group if setup.stage < 3 else numbers)
    return [_part("copy made by gloo", largest, setup.weight_bytes, "gathered weights")]


def _host(sizes: Sizes, setup: Setup) -> tuple[Part, ...]:
    """What offloading puts into the memory of the node, for one rank."""
    parts: list[Part] = []
    width, share = setup.weight_bytes, sizes.trained / setup.ranks
    if setup.offload_optimizer == "cpu":
        parts += [
            *_states(sizes, setup),
            _part("fp32 gradients", share, 4, "T/R"),
            _part("copy of own weights or gradients", share, width, "T/R"),
        ]
    elif setup.offload_optimizer == "nvme":
        parts += [
            _part("own gradients", share, width, "T/R"),
            _part(
                "buffers for NVMe",
                setup.nvme_buffers * min(share, setup.sub_group_size) * (2 + setup.moments),
                4,
                f"{setup.nvme_buffers} x {2 + setup.moments} x min(T/R, sub_group_size)",
            ),
        ]
    if setup.offload_param == "cpu":
        parts.append(_part("share of the weights", sizes.all / setup.ranks, width, "N/R"))
    return tuple(parts)


def _disk(sizes: Sizes, setup: Setup) -> tuple[Part, ...]:
    parts = []
    if setup.offload_optimizer == "nvme":
        numbers = (1 + setup.moments) * sizes.trained / setup.ranks
        parts.append(_part("optimizer states", numbers, 4, f"{1 + setup.moments} x T/R"))
    if setup.offload_param == "nvme":
        numbers = sizes.all / setup.ranks
        parts.append(_part("share of the weights", numbers, setup.weight_bytes, "N/R"))
    return tuple(parts)
