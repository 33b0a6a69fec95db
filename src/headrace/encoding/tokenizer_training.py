"""Training a SentencePiece tokenizer from shards, with the languages balanced by a temperature."""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import unicodedata
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
import sentencepiece
import xxhash
from tqdm import tqdm

from headrace.encoding.sentencepiece_bridge import SPACE_SYMBOL, SPECIAL_TOKENS, to_fast_tokenizer
from headrace.errors import EncodingError, Problem
from headrace.shards import storage

if TYPE_CHECKING:
    from headrace.shards.reader import ShardReader

MODEL_FILE = "sentencepiece.model"
RECORD_FILE = "training.json"
LONGEST_LINE = 4_000
"""Characters; longer lines are cut at a space, as SentencePiece drops what is too long for it."""
TRAINING_THREADS = 8
"""Fixed, because the sums of the EM steps, and with them the model, depend on the number."""


@dataclass(frozen=True)
class TokenizerSettings:
    """What a trained tokenizer depends on besides the text."""

    vocab_size: int
    """Pieces, including 5 special tokens and 256 byte pieces."""
    model_type: Literal["unigram", "bpe"] = "unigram"
    temperature: float = 0.5
    """A language with n samples gets a share proportional to ``n ** temperature``."""
    max_sentences: int = 1_000_000
    """Samples that are drawn at most, over all languages."""
    normalization: Literal["nmt_nfkc", "nfkc", "nmt_nfkc_cf", "nfkc_cf", "identity"] = "nmt_nfkc"
    """SentencePiece's rule; ``nmt_nfkc`` also turns zero-width spaces into spaces."""
    character_coverage: float = 0.9995
    """Share of the characters that get a piece; the rest is spelt in bytes."""
    seed: int = 0


def train_tokenizer(
    readers: Sequence[ShardReader],
    output_dir: str | Path,
    vocab_size: int,
    **settings: Any,
) -> Path:
    """Train SentencePiece on the ``txt`` fields of the sources; return the tokenizer's folder.

    `settings` are the other fields of :class:`TokenizerSettings`.  Sources are grouped by the
    ``language`` in their manifest's metadata (the URL where there is none), and languages are
    sampled with temperature (Conneau et al., 2020, section 3.1): large ones are thinned out, small
    ones are repeated.  The same text and settings give the same bytes.

    The folder holds ``tokenizer.json`` and ``tokenizer_config.json`` for ``AutoTokenizer``,
    ``sentencepiece.model``, and ``training.json``, the record of settings and sources.  It appears
    complete or not at all.  A folder that was trained with the same settings on the same sources
    is kept.

    Raises :class:`EncodingError` if the vocabulary does not fit the text, a setting is out of
    range, there is no text, or the folder holds something else.
    """
    chosen = TokenizerSettings(vocab_size, **settings)
    check_settings(chosen)
    folder = Path(output_dir).expanduser()
    languages: dict[str, list[ShardReader]] = {}
    for reader in readers:
        language = str(reader.manifest.metadata.get("language") or reader.url)
        languages.setdefault(language, []).append(reader)
    sizes = [sum(reader.manifest.samples for reader in group) for group in languages.values()]
    draws = sample_counts(sizes, chosen.temperature, chosen.max_sentences)
    record = {
        "version": 1,
        "settings": asdict(chosen),
        "languages": {
            language: {
                "sources": [reader.manifest.fingerprint for reader in group],
                "samples": size,
                "drawn": drawn,
            }
            for (language, group), size, drawn in zip(languages.items(), sizes, draws, strict=True)
        },
    }
    if folder.exists() and not _is_same(folder, record):
        raise EncodingError(
            Problem(
                "the folder is there already and was not made with these settings and sources",
                str(folder),
                remedy="Choose another --output, or delete the folder",
            )
        )
    if not folder.exists():
        lines = _sampled_lines(languages, draws, chosen)
        _write_folder(folder, _train(lines, chosen), record)
    return folder


def sample_counts(sizes: Sequence[int], temperature: float, limit: int) -> list[int]:
    """Samples to draw from languages of these sizes; they add up to ``min(sum(sizes), limit)``.

    Shares are proportional to ``size ** temperature``, rounded by the largest remainder.
    """
    total = min(sum(sizes), limit)
    powers = np.array([size**temperature if size else 0.0 for size in sizes], dtype=np.float64)
    if total == 0:
        return [0 for _ in sizes]
    exact = total * powers / powers.sum()
    counts = np.floor(exact).astype(np.int64)
    largest_first = np.argsort(counts - exact, kind="stable")
    counts[largest_first[: total - int(counts.sum())]] += 1
    return [int(count) for count in counts]


def check_settings(settings: TokenizerSettings) -> None:
    """Raise :class:`EncodingError` with every setting that is out of range."""
    limits = {
        "vocab_size": (settings.vocab_size >= 1, "1 or more"),
        "temperature": (0 <= settings.temperature <= 1, "0 to 1"),
        "max_sentences": (settings.max_sentences >= 1, "1 or more"),
        "character_coverage": (0.98 <= settings.character_coverage <= 1, "0.98 to 1"),
        "seed": (settings.seed >= 0, "0 or more"),
    }
    problems = [
        Problem("out of range", name, str(getattr(settings, name)), f"Give {allowed}")
        for name, (is_good, allowed) in limits.items()
        if not is_good
    ]
    if problems:
        raise EncodingError(problems)


def _sampled_lines(
    languages: dict[str, list[ShardReader]], draws: Sequence[int], settings: TokenizerSettings
) -> Iterator[str]:
    """Lines of the drawn samples, language by language, in the order of the shards."""
    total = sum(sum(r.manifest.samples for r in group) for group in languages.values())
    with tqdm(total=total, desc="reading", unit=" samples", disable=None) as progress:
        for (language, group), drawn in zip(languages.items(), draws, strict=True):
            size = sum(reader.manifest.samples for reader in group)
            passes, rest = divmod(drawn, max(size, 1))
            key = xxhash.xxh3_64_intdigest(language.encode())
            order = np.random.Generator(np.random.PCG64([settings.seed, key])).permutation(size)
            times = np.full(size, passes, dtype=np.int64)
            times[order[:rest]] += 1
            samples = (sample for reader in group for sample in reader)
            for sample, repeats in zip(samples, times, strict=True):
                progress.update()
                if repeats:
                    lines = list(_lines(sample.text, composed=settings.normalization != "identity"))
                    for _ in range(repeats):
                        yield from lines


def _lines(text: str, *, composed: bool) -> Iterator[str]:
    # The fast tokenizer composes characters and replaces space symbols before it looks anything
    # up; training has to see the same text.
    text = unicodedata.normalize("NFC", text) if composed else text
    for line in text.replace(SPACE_SYMBOL, " ").splitlines():
        rest = line.strip()
        while len(rest) > LONGEST_LINE:
            cut = rest.rfind(" ", 1, LONGEST_LINE)
            cut = cut if cut > 0 else LONGEST_LINE
            yield rest[:cut]
            rest = rest[cut:].lstrip()
        if rest:
            yield rest


def _train(lines: Iterator[str], settings: TokenizerSettings) -> bytes:
    """A serialised SentencePiece model."""
    model = io.BytesIO()
    failures: list[Exception] = []

    def guarded() -> Iterator[str]:
        # SentencePiece turns whatever its iterator raises into a RuntimeError without a cause.
        try:
            yield from lines
        except Exception as error:
            failures.append(error)
            raise

    # Special tokens get the ids 0, 1, ...; the mask is the first control symbol and so comes next.
    options: dict[str, Any] = {"control_symbols": [SPECIAL_TOKENS["mask_token"]]}
    for number, (name, piece) in enumerate(SPECIAL_TOKENS.items()):
        if name != "mask_token":
            kind = name.removesuffix("_token")
            options |= {f"{kind}_id": number, f"{kind}_piece": piece}
    try:
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=guarded(),
            model_writer=model,
            vocab_size=settings.vocab_size,
            model_type=settings.model_type,
            normalization_rule_name=settings.normalization,
            character_coverage=settings.character_coverage,
            byte_fallback=True,
            # Printable ASCII always has pieces, so that a literal "<s>" in a text is spelt out.
            required_chars="".join(map(chr, range(0x21, 0x7F))),
            max_sentence_length=4 * LONGEST_LINE + 1,
            num_threads=TRAINING_THREADS,
            minloglevel=2,
            **options,
        )
    except RuntimeError as error:
        if failures:
            raise failures[0] from None
        raise EncodingError(_not_trained(settings, str(error))) from error
    return model.getvalue()


def _not_trained(settings: TokenizerSettings, message: str) -> Problem:
    size = str(settings.vocab_size)
    if found := re.search(r"too high \(\d+\).*?<= (\d+)", message):
        what = f"the text is too small for so many pieces: {found[1]} are the most it gives"
        return Problem(what, "vocab_size", size, f"Use --vocab-size {found[1]} or less")
    if found := re.search(r"smaller than required_chars\. \d+ vs (\d+)", message):
        what = f"special tokens, bytes and single characters alone are {found[1]} pieces"
        return Problem(what, "vocab_size", size, f"Use --vocab-size {found[1]} or more")
    if "sentences_.empty()" in message:
        remedy = "Use sources whose samples have a field txt that is not empty"
        return Problem("there is no text to train on", "sources", remedy=remedy)
    return Problem("SentencePiece cannot train on this text", "sources", message.strip())


def _is_same(folder: Path, record: dict[str, Any]) -> bool:
    try:
        return bool(json.loads((folder / RECORD_FILE).read_text(encoding="utf-8")) == record)
    except (OSError, ValueError):
        return False


def _write_folder(folder: Path, model: bytes, record: dict[str, Any]) -> None:
    temporary = folder.with_name(f".{folder.name}.part-{os.getpid()}")
    try:
        with storage.writing_problems(EncodingError, "the folder cannot be written", folder):
            folder.parent.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(temporary, ignore_errors=True)
            temporary.mkdir()
            to_fast_tokenizer(model).save_pretrained(temporary)
            # What every version of transformers calls a tokenizer that is as tokenizer.json says.
            config_file = temporary / "tokenizer_config.json"
            config = json.loads(config_file.read_text(encoding="utf-8"))
            config["tokenizer_class"] = "PreTrainedTokenizerFast"
            config_file.write_text(_json(config), encoding="utf-8")
            (temporary / MODEL_FILE).write_bytes(model)
            (temporary / RECORD_FILE).write_text(_json(record), encoding="utf-8")
            for file in temporary.iterdir():
                with file.open("rb") as handle:
                    os.fsync(handle.fileno())
            temporary.rename(folder)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _json(value: dict[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False, indent=1, sort_keys=True) + "\n"
