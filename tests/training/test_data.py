"""Batches of a rank: all samples once over the ranks, also where a rank has none."""

import json
from pathlib import Path

import pytest
import torch

from headrace.config import load_run_config
from headrace.stream.batching import BatchPlan
from headrace.stream.grouping import PackPlan, TokenBudgetPlan
from headrace.stream.packing import samples_of
from headrace.training.data import IGNORED, BatchMaker, encode_data, open_data, token_lengths
from headrace.training.stages import expand_stages


@pytest.fixture(scope="module")
def data_and_branch(small_corpus, tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    path = folder / "run.json"
    path.write_text(json.dumps(small_corpus.config(folder / "run")))
    config = load_run_config(path)
    return encode_data(open_data(config), config), expand_stages(config)[0]


@pytest.fixture(scope="module")
def maker(data_and_branch):
    data, branch = data_and_branch
    plan = BatchPlan(
        data.opened.plan(branch, 3, data.train),
        token_lengths(data.train[language] for language in branch.languages),
        batch_size=16,
    )

    def make(rank, world_size, accumulation=2):
        micro = -(-16 // (world_size * accumulation))
        return BatchMaker(
            data, plan, branch,
            rank=rank, world_size=world_size, micro_batch_size=micro, accumulation=accumulation,
        )  # fmt: skip

    return make


def rows(batches):
    """Every sample of the micro-batches that counts, as (ids, labels) without padding."""
    found = []
    for batch in batches:
        for micro in batch.micro_batches:
            for ids, mask, labels in zip(
                micro["input_ids"], micro["attention_mask"], micro["labels"], strict=True
            ):
                if (labels != IGNORED).any():
                    keep = mask.bool()
                    found.append((tuple(ids[keep].tolist()), tuple(labels[keep].tolist())))
    return sorted(found)


@pytest.mark.parametrize("world_size", [2, 3, 4, 20])
@pytest.mark.parametrize("step", [0, 3, 18])  # 18: the smaller last batch of the epoch
def test_any_number_of_ranks_takes_the_same_samples(maker, world_size, step):
    alone = maker(0, 1).make(step)
    shared = [maker(rank, world_size).make(step) for rank in range(world_size)]
    assert rows(shared) == rows([alone])
    assert len(rows([alone])) == alone.samples
    assert {batch.labelled_tokens for batch in shared} == {alone.labelled_tokens}
    counted = sum((micro["labels"] != IGNORED).sum() for b in shared for micro in b.micro_batches)
    assert counted == alone.labelled_tokens


def test_a_rank_without_samples_still_has_every_micro_batch(maker):
    batch = maker(19, 20).make(0)
    assert len(batch.micro_batches) == 2
    for micro in batch.micro_batches:
        assert micro["input_ids"].numel() > 0
        assert torch.all(micro["labels"] == IGNORED)


def filled_by_length(data, branch, kind):
    order = data.opened.plan(branch, 3, data.train)
    lengths = token_lengths(data.train[language] for language in branch.languages)
    if kind == "tokens":
        return TokenBudgetPlan(order, lengths, tokens_per_batch=300)
    return PackPlan(order, lengths, pack_length=64, batch_size=6)


def samples_in(batches):
    """Every labelled sample of the micro-batches, as (ids, labels) without padding."""
    found = []
    for batch in batches:
        for micro in batch.micro_batches:
            segments = micro["segments"] if "segments" in micro else micro["attention_mask"]
            for ids, numbers, labels in zip(
                micro["input_ids"], segments, micro["labels"], strict=True
            ):
                for number in range(1, int(numbers.max()) + 1):
                    own = numbers == number
                    if (labels[own] != IGNORED).any():
                        found.append((tuple(ids[own].tolist()), tuple(labels[own].tolist())))
    return sorted(found)


@pytest.mark.parametrize("kind", ["tokens", "packed"])
@pytest.mark.parametrize("world_size", [1, 2, 3, 7, 20])
def test_batches_filled_by_length_are_shared_by_any_number_of_ranks(
    data_and_branch, kind, world_size
):
    data, branch = data_and_branch
    plan = filled_by_length(data, branch, kind)
    for step in (0, 3, plan.steps_before(1) - 1):
        shared = [
            BatchMaker(
                data, plan, branch,
                rank=rank, world_size=world_size, micro_batch_size=6, accumulation=2,
            ).make(step)
            for rank in range(world_size)
        ]  # fmt: skip
        assert all(len(batch.micro_batches) == 2 for batch in shared)
        whole = samples_of(plan.batch(step))
        expected = []
        for source, shard, sample in zip(whole.source, whole.shard, whole.sample, strict=True):
            encoded = data.train[branch.languages[source]].shards[shard]
            expected.append((encoded.tokens(sample).tolist(), encoded.labels(sample).tolist()))
        assert samples_in(shared) == sorted((tuple(a), tuple(b)) for a, b in expected)
        assert {batch.samples for batch in shared} == {len(expected)}
        labels = sum((micro["labels"] >= 0).sum() for b in shared for micro in b.micro_batches)
        assert {batch.labelled_tokens for batch in shared} == {int(labels)}
        assert {batch.real_tokens for batch in shared} == {sum(len(a) for a, _ in expected)}
        capacity = 300 if kind == "tokens" else 64 * len(plan.batch(step))
        assert {batch.capacity for batch in shared} == {capacity}


@pytest.mark.parametrize("kind", ["samples", "tokens", "packed"])
def test_a_batch_without_any_sample_is_still_one_for_every_rank(data_and_branch, kind):
    """All shards are quarantined: no rank has a sample, all have something to compute."""
    data, branch = data_and_branch
    every = frozenset(
        (number, shard)
        for number, language in enumerate(branch.languages)
        for shard in range(len(data.train[language].shards))
    )
    order = data.opened.plan(branch, 3, data.train)
    lengths = token_lengths(data.train[language] for language in branch.languages)
    plan = {
        "samples": lambda: BatchPlan(order, lengths, batch_size=16, quarantined=every),
        "tokens": lambda: TokenBudgetPlan(order, lengths, tokens_per_batch=300, quarantined=every),
        "packed": lambda: PackPlan(order, lengths, pack_length=64, batch_size=6, quarantined=every),
    }[kind]()
    batch = BatchMaker(
        data, plan, branch, rank=1, world_size=2, micro_batch_size=8, accumulation=2
    ).make(1)
    assert (batch.samples, batch.labelled_tokens, batch.real_tokens) == (0, 0, 0)
    assert len(batch.micro_batches) == 2
    assert all(torch.all(micro["labels"] == IGNORED) for micro in batch.micro_batches)


def test_validation_takes_as_many_samples_as_a_micro_batch_has_room_for(data_and_branch):
    data, branch = data_and_branch  # samples have at most 48 tokens

    def samples_at_once(plan, micro):
        maker = BatchMaker(
            data, plan, branch, rank=0, world_size=2, micro_batch_size=micro, accumulation=2
        )
        return maker.samples_at_once

    order = data.opened.plan(branch, 3, data.train)
    lengths = token_lengths(data.train[language] for language in branch.languages)
    assert samples_at_once(BatchPlan(order, lengths, batch_size=16), 4) == 4
    assert samples_at_once(PackPlan(order, lengths, pack_length=100, batch_size=4), 3) == 6
    assert samples_at_once(TokenBudgetPlan(order, lengths, tokens_per_batch=1000), 4) == 5
    assert samples_at_once(TokenBudgetPlan(order, lengths, tokens_per_batch=100), 4) == 1


def test_memory_is_pinned_only_for_a_gpu(maker):
    batch = maker(0, 1).make(0)
    assert not any(tensor.is_pinned() for micro in batch.micro_batches for tensor in micro.values())
    if not torch.cuda.is_available():
        pytest.skip("pinned memory needs a CUDA device")
    pinned = maker(0, 1)
    pinned.pin_memory = True
    assert all(
        tensor.is_pinned() for micro in pinned.make(0).micro_batches for tensor in micro.values()
    )


def test_counts_are_those_of_the_tensors(maker):
    batch = maker(0, 1).make(0)
    real = sum(int(micro["attention_mask"].sum()) for micro in batch.micro_batches)
    assert batch.real_tokens == real
    assert batch.computed_tokens == sum(m["input_ids"].numel() for m in batch.micro_batches)


def test_remote_shards_give_the_same_tensors(small_corpus, tmp_path):
    """The same source, copied to another file system of fsspec."""
    import fsspec

    from headrace.encoding.sidecar import encode_source
    from headrace.encoding.token_classification import TokenClassificationEncoder
    from headrace.encoding.tokenizer import load_tokenizer
    from headrace.shards.reader import ShardReader
    from headrace.tasks.labels import load_label_set

    local = Path(small_corpus.source("zh", "train"))
    memory = fsspec.filesystem("memory")
    for file in local.iterdir():
        if file.is_file():
            memory.pipe_file(f"/remote/zh/{file.name}", file.read_bytes())
    sources = [
        encode_source(
            ShardReader(url),
            TokenClassificationEncoder(
                load_tokenizer(str(small_corpus.tokenizer)), load_label_set("multiconer_v2"), 48
            ),
            cache_dir=tmp_path / name,
            language="zh",
        )
        for name, url in (("local", str(local)), ("memory", "memory://remote/zh"))
    ]
    assert sources[0].fingerprint == sources[1].fingerprint
    count = sources[0].samples
    assert count == sources[1].samples == 60
    for mine, theirs in zip(sources[0].shards, sources[1].shards, strict=True):
        for sample in range(len(mine)):
            assert mine.tokens(sample).tolist() == theirs.tokens(sample).tolist()
            assert mine.labels(sample).tolist() == theirs.labels(sample).tolist()
