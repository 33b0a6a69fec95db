"""Models after training: load an exported folder, score it on shards, tag sentences with it.

The folder may be an export of Headrace or any other token classification model in Hugging Face
format whose ``id2label`` names IOB2 tags.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tqdm import tqdm
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from headrace.encoding.alignment import WordAligner
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import ConfigError, LabelError, Problem, UserError
from headrace.shards.reader import ShardReader
from headrace.tasks.labels import LabelSet, built_in_label_sets, load_label_set
from headrace.tasks.spans import OUTSIDE
from headrace.tasks.token_classification import TokenClassification
from headrace.training.distributed import World
from headrace.training.export import read_facts
from headrace.training.model import usable_positions
from headrace.training.models_of_run import is_run_folder
from headrace.training.validation import Validation, validate

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_LONGEST = 512
"""Tokens of a sentence where neither the export, the tokenizer nor the network sets a limit."""
_WINDOW = 1024
"""Sentences that are sorted by length together when they are tagged."""


@dataclass(frozen=True)
class TrainedModel:
    """A token classification network with what is needed to use it."""

    name: str
    """Folder, or name on the hub."""
    network: PreTrainedModel
    """In evaluation mode and fp32; its logits are in the order of ``task.label_set.tags``."""
    tokenizer: PreTrainedTokenizerFast
    task: TokenClassification
    max_length: int
    """Tokens of a sentence at most, special tokens included."""
    world: World
    """A world of one rank, and the device of the network."""
    facts: Mapping[str, Any]
    """What Headrace wrote beside the model; empty for a model of another origin."""

    @property
    def language(self) -> str | None:
        """The language that the model was trained on last, if it is one."""
        languages = self.facts.get("languages", ())
        return str(languages[0]) if len(languages) == 1 else None


@dataclass(frozen=True)
class TaggedSentence:
    """The answer to one sentence."""

    tags: list[str]
    """One tag a word; ``O`` for a word that was cut off or has no pieces."""
    words_cut: int
    """Words beyond the maximum length."""


def load_model(
    name: str | Path, *, max_length: int | None = None, device: torch.device | None = None
) -> TrainedModel:
    """Load a model from a folder in Hugging Face format, or from the hub.

    Args:
        name: folder (an ``export`` folder of a run, say) or name on the hub. Code that comes with
            a model is never run.
        max_length: tokens of a sentence at most. Default: what the model was trained with.
        device: default: the first GPU, or the CPU where there is none.

    Raises:
        UserError: if there is no such model, or its labels are not IOB2 tags.
    """
    name = str(name)
    path = Path(name).expanduser()
    _check_folder(path, name)
    source = str(path) if path.is_dir() else name
    facts = read_facts(path)
    try:
        settings = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from None
    label_set, order = label_set_of_model(settings.id2label, facts, name)
    task = TokenClassification(label_set)
    tokenizer = load_tokenizer(source)
    if max_length is not None and max_length > usable_positions(settings):
        raise ConfigError(
            Problem(
                f"the model takes at most {usable_positions(settings)} tokens",
                "max_length",
                str(max_length),
                "Lower it",
            )
        )
    try:
        network, loading = task.model_class.from_pretrained(
            source,
            config=settings,
            dtype=torch.float32,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _not_loaded(name, error) from None
    if loading["missing_keys"]:
        raise ConfigError(
            Problem(
                "the folder lacks weights of a token classification model, they would be random",
                name,
                ", ".join(sorted(loading["missing_keys"])[:5]),
                "Give a model that was fine-tuned to tag words",
            )
        )
    if order != list(range(len(order))):
        _reorder_logits(network, order)
    if device is None:
        device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    return TrainedModel(
        name=name,
        network=network.to(device).eval(),
        tokenizer=tokenizer,
        task=task,
        max_length=max_length or _max_length(facts, settings, tokenizer),
        world=World(rank=0, size=1, device=device),
        facts=facts,
    )


def label_set_of_model(
    id2label: Mapping[int, str], facts: Mapping[str, Any], where: str
) -> tuple[LabelSet, list[int]]:
    """Return the label set of a model, and which of its outputs belongs to each tag in order.

    The coarse families are those that Headrace wrote beside the model, else those of the built-in
    label set with the same types, else each type is its own family.

    Raises:
        LabelError: naming every label that is not an IOB2 tag, and every tag without its partner.
    """
    names = [id2label[number] for number in sorted(id2label)]
    remedy = "Give a model whose id2label holds O and, for each type, B-type and I-type"
    problems = []
    types: dict[str, None] = {}
    for name in names:
        prefix, _, type_ = name.partition("-")
        if prefix in ("B", "I") and type_:
            types[type_] = None
        elif name != OUTSIDE:
            problems.append(Problem("a label that is not an IOB2 tag", where, name, remedy))
    if not problems:
        wanted = [OUTSIDE, *(f"{prefix}-{type_}" for type_ in types for prefix in "BI")]
        problems = [
            Problem("the model has no label for a tag", where, tag, remedy)
            for tag in wanted
            if tag not in names
        ]
        if len(set(names)) != len(names):
            problems.append(Problem("the model has a label twice", where, remedy=remedy))
    if problems:
        raise LabelError(problems)
    families = facts.get("families")
    title = str(facts.get("label_set", "of the model"))
    if families is None:
        families, title = _built_in_families(set(types), title)
    label_set = LabelSet(
        title, tuple(types), {type_: families.get(type_, type_) for type_ in types}
    )
    return label_set, [names.index(tag) for tag in label_set.tags]


def _built_in_families(types: set[str], title: str) -> tuple[Mapping[str, str], str]:
    for name in built_in_label_sets():
        known = load_label_set(name)
        if set(known.types) == types:
            return known.coarse, name
    return {}, title


def _reorder_logits(network: PreTrainedModel, order: Sequence[int]) -> None:
    """Make a network of another origin answer in the order of the label set."""

    def reordered(_module: Any, _inputs: Any, output: Any) -> Any:
        output.logits = output.logits[..., order]
        return output

    network.register_forward_hook(reordered)


def _max_length(facts: Mapping[str, Any], settings: Any, tokenizer: PreTrainedTokenizerFast) -> int:
    if "max_length" in facts:
        return int(facts["max_length"])
    return min(_LONGEST, int(tokenizer.model_max_length), usable_positions(settings))


def _check_folder(path: Path, name: str) -> None:
    """Refuse what is neither a model folder nor can be a name on the hub."""
    remedy = "Give an export folder of a run, another Hugging Face folder or a name on the hub"
    if is_run_folder(path):
        exports = sorted(str(folder) for folder in path.glob("*/*/export"))
        remedy = f"Give one of its models: {', '.join(exports)}" if exports else remedy
        raise ConfigError(Problem("this is a run folder, not a model", name, remedy=remedy))
    # a name on the hub has two parts at most, and none of them is a folder here
    may_be_on_hub = _HUB_NAME.fullmatch(name) and not Path(path.parts[0]).exists()
    if not (path / "config.json").is_file() and not may_be_on_hub:
        raise ConfigError(
            Problem("no exported model here: there is no config.json", name, remedy=remedy)
        )


def _not_loaded(name: str, error: Exception) -> ConfigError:
    lines = str(error).strip().splitlines() or [type(error).__name__]
    return ConfigError(
        Problem(
            f"the model cannot be loaded: {lines[0][:200]}",
            name,
            remedy="Check the path: it is neither a model folder here nor a name on the hub",
        )
    )


def encode_for_model(
    model: TrainedModel, urls: Mapping[str, str], cache_dir: Path
) -> dict[str, EncodedSource]:
    """Encode sources for a model; sidecars that are there already are used.

    Raises:
        UserError: with the problems of all sources; a tag that the model does not know is named.
    """
    sources: dict[str, EncodedSource] = {}
    problems: list[Problem] = []
    for language, url in urls.items():
        try:
            sources[language] = encode_source(
                ShardReader(url),
                model.task.encoder(model.tokenizer, model.max_length),
                cache_dir=cache_dir,
                language=language,
            )
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    return sources


def score(
    model: TrainedModel, sources: Mapping[str, EncodedSource], *, batch_size: int, title: str = ""
) -> Validation:
    """Measure a model on encoded sources, exactly as a run does after each epoch."""
    total = sum(source.samples for source in sources.values())
    with tqdm(total=total, desc=title or "evaluating", unit=" sentences", disable=None) as progress:

        def count(_module: Any, _inputs: Any, keywords: dict[str, Any], _output: Any) -> None:
            progress.update(len(keywords["input_ids"]))

        hook = model.network.register_forward_hook(count, with_kwargs=True)
        try:
            return validate(
                model.network,
                sources,
                model.task,
                model.world,
                batch_size=batch_size,
                pad=model.tokenizer.pad_token_id or 0,
            )
        finally:
            hook.remove()


def tag_sentences(
    model: TrainedModel, sentences: Iterable[Sequence[str]], *, batch_size: int
) -> Iterator[TaggedSentence]:
    """Tag sentences, each a sequence of words, in their order.

    Sentences of similar length are computed together, so that little is padded; a window of them
    is in memory at a time.
    """
    aligner = WordAligner(model.tokenizer, model.max_length)
    remaining = iter(sentences)
    while window := [list(words) for words in islice(remaining, _WINDOW)]:
        yield from _tag_window(model, aligner, window, batch_size)


def _tag_window(
    model: TrainedModel, aligner: WordAligner, window: list[list[str]], batch_size: int
) -> list[TaggedSentence]:
    aligned = aligner.align(window)
    lengths = np.diff(aligned.token_offsets)
    pad = model.tokenizer.pad_token_id or 0
    answers: list[TaggedSentence | None] = [None] * len(window)
    order = np.argsort(-lengths, kind="stable")
    for start in range(0, len(order), batch_size):
        rows = order[start : start + batch_size]
        shape = (len(rows), int(lengths[rows].max()))
        tokens = np.full(shape, pad, dtype=np.int64)
        mask = np.zeros(shape, dtype=np.int64)
        for place, row in enumerate(rows):
            own = aligned.tokens[aligned.token_offsets[row] : aligned.token_offsets[row + 1]]
            tokens[place, : len(own)] = own
            mask[place, : len(own)] = 1
        with torch.inference_mode():
            logits = model.network(
                input_ids=torch.from_numpy(tokens).to(model.world.device),
                attention_mask=torch.from_numpy(mask).to(model.world.device),
            ).logits
        predicted = logits.argmax(-1).cpu().numpy()
        for place, row in enumerate(rows):
            words = slice(aligned.word_offsets[row], aligned.word_offsets[row + 1])
            answers[row] = TaggedSentence(
                model.task.tags_of_words(predicted[place], aligned.word_positions[words]),
                int(aligned.word_truncated[words].sum()),
            )
    return [answer for answer in answers if answer is not None]
