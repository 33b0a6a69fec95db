"""Adds copies of some samples to a source, as they are or with errors.

With them one tries out what finds or avoids redundant data, trains models that errors confuse less,
and measures how much errors confuse a model.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import xxhash
from tqdm import tqdm

from headrace.corpus.build import finished_before
from headrace.corpus.noise import Noise, parse_noise
from headrace.corpus.sample_corpus.randomness import fraction, seeded
from headrace.corpus.statistics import Statistics, is_question
from headrace.corpus.typos import with_typos
from headrace.counts import counted
from headrace.errors import CorpusError, Problem
from headrace.shards import storage
from headrace.shards.manifest import Manifest
from headrace.shards.reader import ShardReader
from headrace.shards.sample import Sample, key_of, make_sample
from headrace.shards.writer import ShardWriter

_RECIPE = 1
"""Raise it when the same source gives other copies than before."""
CLEAN, NOISY = "clean", "noisy"
"""Subsets of originals and copies."""


def augment_source(
    source_url: str,
    output_url: str,
    *,
    share: float = 0.01,
    copies: int = 100,
    noise: float | str = 0.0,
    only_copies: bool = False,
    subsets: bool = False,
    seed: int = 1,
    samples_per_shard: int = 10_000,
    overwrite: bool = False,
) -> Manifest:
    """Write a source with all samples of another one, and behind them copies of some.

    ``round(share * samples * copies)`` copies are added, ``copies`` of each sample that is drawn
    and fewer of the last one if they do not come out even: 1 % of 1,871 samples, 100 times each,
    are 1,871 copies of 19 samples, and the source has 3,742 (Downie, *Fine-Tuning BERT via
    Submodular Maximization*, section 4.2).  Which samples are drawn depends on their keys and the
    seed alone; so do the errors of a near-copy.

    Args:
        source_url: Folder of the source; its samples have the fields ``txt`` and ``json``.
        output_url: Folder of the new source.
        share: Share of the samples that is copied, above 0 and at most 1.
        copies: Copies of each of them.
        noise: Probability of a typing error at each letter of a copy (0: exact copies), see
            :func:`headrace.corpus.typos.with_typos`, or ``KIND:RATE,...``, see
            :mod:`headrace.corpus.noise`.  The tokens of sentences with tags get errors, context
            and all choices of a question, the text of all others.
        only_copies: Leave the originals out: a source to be mixed with that of the originals.
        subsets: Originals get the subset ``clean`` and copies ``noisy``, in place of one that they
            have, so that scores are given for both.
        seed: Another seed, other samples and other errors.
        samples_per_shard: Samples in every shard but the last.
        overwrite: Replace the source or the interrupted build in the folder.

    The ``json`` of a copy has ``copy_of``, the key of the sample that it is of; its key and ``id``
    are ``KEY-copy-N``, N from 1.  The metadata of the new source are those of the old one with
    new counts and with ``augmentation``: the settings, ``drawn`` and ``added``.  Started again
    after an interruption the work goes on where it was; the same call again does nothing.

    Raises :class:`CorpusError` for the settings and for samples that cannot be copied,
    :class:`ShardError` for source and output.
    """
    errors = _check_settings(output_url, share, copies, noise, samples_per_shard)
    with ShardReader(source_url) as reader:
        keys = [key for number in range(len(reader.manifest.shards)) for key in reader.keys(number)]
        plan = _plan(keys, share, copies, seed)
        settings: dict[str, Any] = {
            "share": share,
            "copies": copies,
            "noise": errors.settings() if isinstance(errors, Noise) else errors,
            "seed": seed,
            **({"only_copies": True} if only_copies else {}),
            **({"subsets": True} if subsets else {}),
        }
        identity = {
            "recipe": _RECIPE,
            "source": reader.manifest.fingerprint,
            "samples_per_shard": samples_per_shard,
            **settings,
        }
        fingerprint = xxhash.xxh3_128_hexdigest(json.dumps(identity, sort_keys=True).encode())
        if not overwrite:
            finished = finished_before(output_url, fingerprint)
            if finished is not None:
                return finished
        statistics = Statistics()
        added = sum(plan.values())
        with ShardWriter(
            output_url,
            name=str(reader.manifest.metadata.get("split", "shard")),
            samples_per_shard=samples_per_shard,
            fingerprint=fingerprint,
            parent=reader.manifest.fingerprint,
            overwrite=overwrite,
        ) as writer:
            samples = _samples(reader, plan, errors, seed, only_copies=only_copies, subsets=subsets)
            total = added if only_copies else len(keys) + added
            for sample in tqdm(samples, "write", total, unit=" samples", disable=None):
                statistics.count(sample)
                writer.write(sample)
            writer.metadata.update(
                {
                    **reader.manifest.metadata,
                    **statistics.to_metadata(),
                    "augmentation": {**settings, "drawn": len(plan), "added": added},
                    "build": fingerprint,
                }
            )
            if subsets:  # no longer one for all samples
                writer.metadata.pop("subset", None)
            return writer.close()


def _check_settings(
    output_url: str, share: float, copies: int, noise: float | str, samples_per_shard: int
) -> float | Noise:
    """The noise, read."""
    problems: list[Problem] = []
    if storage.is_empty(output_url):
        problems.append(Problem("the path is empty", "output", None, "Name the source's folder"))
    if not 0 < share <= 1:
        remedy = "Give a share above 0 and at most 1"
        problems.append(Problem("not a share", "share", str(share), remedy))
    errors: float | Noise = 0.0
    if isinstance(noise, str) and ":" in noise:
        errors = parse_noise(noise, problems)
    else:
        try:
            errors = float(noise)
            is_share = 0 <= errors <= 1
        except ValueError:
            is_share = False
        if not is_share:
            remedy = "Give a share from 0 to 1, or KIND:RATE,KIND:RATE"
            problems.append(Problem("not a share", "noise", str(noise), remedy))
    for option, count in (("copies", copies), ("samples_per_shard", samples_per_shard)):
        if count < 1:
            problems.append(Problem("out of range", option, str(count), "Give 1 or more"))
    if problems:
        raise CorpusError(problems)
    return errors


def _plan(keys: Sequence[str], share: float, copies: int, seed: int) -> dict[str, int]:
    """Number of copies of each sample that is drawn, by key, in the order of the source."""
    added = round(share * len(keys) * copies)
    if added == 0:
        value = f"{share} of {counted(len(keys), 'sample')}, {counted(copies, 'time')}"
        raise CorpusError(Problem("not a single copy comes of it", "share", value, "Raise it"))
    drawn = sorted(keys, key=lambda key: (fraction("copies", seed, key), key))
    chosen = set(drawn[: -(-added // copies)])
    in_order = [key for key in keys if key in chosen]
    plan = dict.fromkeys(in_order, copies)
    plan[in_order[-1]] -= copies * len(in_order) - added
    taken = set(keys)
    problems = [
        Problem(
            "the source has a sample with the key of a copy",
            f"sample {key}",
            _copy_key(key, number),
            "Take a source without copies, or another seed",
        )
        for key, count in plan.items()
        for number in range(1, count + 1)
        if _copy_key(key, number) in taken
    ]
    if problems:
        raise CorpusError(problems[:20])
    return plan


def _copy_key(key: str, number: int) -> str:
    return key_of(f"{key}-copy-{number}")


def _samples(
    reader: ShardReader,
    plan: dict[str, int],
    noise: float | Noise,
    seed: int,
    *,
    only_copies: bool,
    subsets: bool,
) -> Iterator[Sample]:
    drawn = []
    for sample in reader:
        if not only_copies:
            yield _in_subset(sample, CLEAN) if subsets else sample
        if sample.key in plan:
            drawn.append(sample)
    language = reader.manifest.metadata.get("language")
    for sample in drawn:
        for number in range(1, plan[sample.key] + 1):
            copy = _copy(sample, _copy_key(sample.key, number), noise, seed, language)
            yield _in_subset(copy, NOISY) if subsets else copy


def _in_subset(sample: Sample, name: str) -> Sample:
    changed = {**sample.metadata, "subset": name}
    return make_sample(sample.key, sample.text, changed, sample.origin)


def _copy(
    sample: Sample, key: str, noise: float | Noise, seed: int, language: str | None
) -> Sample:
    """A copy under another key, with errors drawn from ``seed`` and ``key``."""
    text, metadata = sample.text, sample.metadata
    if isinstance(noise, Noise):
        own = metadata.get("language", language)
        errors = noise.of_sample(seeded("noise", seed, key), own)
        text, metadata = _near_copy(text, metadata, errors.text, errors.words)
    elif noise:
        source = seeded("typos", seed, key)

        def mistyped(part: str) -> str:
            return with_typos(part, noise, source)

        text, metadata = _near_copy(
            text, metadata, mistyped, lambda words: [mistyped(word) for word in words]
        )
    changed = {**metadata, "id": key, "copy_of": sample.key}
    return make_sample(key, text, changed, sample.origin)


def _near_copy(
    text: str,
    metadata: dict[str, Any],
    changed: Callable[[str], str],
    changed_words: Callable[[list[str]], list[str]],
) -> tuple[str, dict[str, Any]]:
    if is_question(metadata):
        context = changed(metadata["context"])
        choices = [changed(choice) for choice in metadata["choices"]]
        metadata = {**metadata, "context": context, "choices": choices}
        return f"{context} {choices[metadata['label']]}", metadata
    if "tokens" in metadata:
        tokens = changed_words(metadata["tokens"])
        return " ".join(tokens), {**metadata, "tokens": tokens}
    texts = {
        name: changed(metadata[name])
        for name in ("text", "pair")
        if isinstance(metadata.get(name), str)
    }
    if "text" in texts:
        return "\n".join(texts.values()), {**metadata, **texts}
    return changed(text), metadata
