"""Models after training: load an exported folder, and score it on shards.

The folder may be an export of Headrace or another model in Hugging Face format: one for multiple
choice or sequence classification, or one for token classification whose ``id2label`` names IOB2
tags.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
from tqdm import tqdm
from transformers import AutoConfig, PreTrainedModel, PreTrainedTokenizerFast

from headrace.config.messages import did_you_mean
from headrace.config.plug_ins import plug_in_names
from headrace.encoding.sidecar import EncodedSource, encode_source
from headrace.encoding.tokenizer import load_tokenizer
from headrace.errors import ConfigError, Problem, UserError
from headrace.shards.reader import ShardReader
from headrace.tasks.causal_lm import CausalLM
from headrace.tasks.masked_lm import MaskedLM
from headrace.tasks.multiple_choice import MultipleChoice
from headrace.tasks.registry import TASKS, task_class
from headrace.tasks.sequence_classification import SequenceClassification
from headrace.tasks.task import Task
from headrace.tasks.token_classification import TokenClassification
from headrace.training.distributed import World
from headrace.training.export import read_facts
from headrace.training.model import usable_positions
from headrace.training.models_of_run import is_run_folder
from headrace.training.validation import Observer, Validation, validate

_HUB_NAME = re.compile(r"[A-Za-z0-9_][\w.-]*(/[A-Za-z0-9_][\w.-]*)?")
_LONGEST = 512
"""Tokens of a sentence where neither the export, the tokenizer nor the network sets a limit."""

_TASK_OF_CLASS: Mapping[str, type[Task]] = {
    "ForMultipleChoice": MultipleChoice,
    "ForSequenceClassification": SequenceClassification,
    "ForMaskedLM": MaskedLM,
    "ForCausalLM": CausalLM,
    "LMHeadModel": CausalLM,
}
"""How the name of a network's class ends -> its task; of all others token classification."""

AnyTask = TypeVar("AnyTask", bound=Task)


@dataclass(frozen=True)
class TrainedModel:
    """A network with what is needed to use it."""

    name: str
    """Folder, or name on the hub."""
    network: PreTrainedModel
    """In evaluation mode and fp32; where it tags words, in the order of the label set's tags."""
    tokenizer: PreTrainedTokenizerFast
    task: Task
    max_length: int
    """Tokens of a sequence at most, special tokens included."""
    world: World
    """A world of one rank, and the device of the network."""
    facts: Mapping[str, Any]
    """What Headrace wrote beside the model; empty for a model of another origin."""

    @property
    def language(self) -> str | None:
        """The language that the model was trained on last, if it is one."""
        languages = self.facts.get("languages", ())
        return str(languages[0]) if len(languages) == 1 else None


def load_model(
    name: str | Path,
    *,
    max_length: int | None = None,
    head: str | None = None,
    device: torch.device | None = None,
) -> TrainedModel:
    """Load a model from a folder in Hugging Face format, or from the hub.

    Args:
        name: folder (an ``export`` folder of a run, say) or name on the hub. Code that comes with
            a model is never run.
        max_length: tokens of a sentence at most. Default: what the model was trained with.
        head: of sequence classification, answers for all sources. Default: the head of each source.
        device: default: the first GPU, or the CPU where there is none.

    Raises:
        UserError: if there is no such model, or its labels are not those of its task.
    """
    name = str(name)
    source, settings, facts = _described(name)
    task, order = _task_of(settings, facts, name, head)
    tokenizer = load_tokenizer(source)
    task = task.for_tokenizer(tokenizer)
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
                f"the folder lacks weights of a model for {_words(task)}, they would be random",
                name,
                ", ".join(sorted(loading["missing_keys"])[:5]),
                "Give a model that was fine-tuned for this task",
            )
        )
    if list(order) != list(range(len(order))):
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


def task_of_model(name: str | Path) -> str:
    """Return the name of the task that a model is for; nothing of it is loaded but its config.

    Raises:
        UserError: if there is no such model.
    """
    _, settings, facts = _described(str(name))
    return _task_name(settings, facts)


def described_task(name: str | Path, *, head: str | None = None) -> Task:
    """Return the task of a model with its labels; no weights are loaded.

    Raises:
        UserError: if there is no such model, or its labels are not those of its task.
    """
    _, settings, facts = _described(str(name))
    return _task_of(settings, facts, str(name), head)[0]


def check_task(model: TrainedModel, wanted: type[AnyTask]) -> AnyTask:
    """Return the task of a model, which has to be of this kind.

    Raises:
        ConfigError: for a model of another task.
    """
    if isinstance(model.task, wanted):
        return model.task
    name = wanted.name.replace("_", " ")
    raise ConfigError(
        Problem(f"the model is not for {name}", model.name, _words(model.task), "Give another one")
    )


def _words(task: Task) -> str:
    return task.name.replace("_", " ")


def _described(name: str) -> tuple[str, Any, dict[str, Any]]:
    """Where a model is loaded from, its config, and what Headrace wrote beside it."""
    path = Path(name).expanduser()
    _check_folder(path, name)
    source = str(path) if path.is_dir() else name
    try:
        settings = AutoConfig.from_pretrained(source, trust_remote_code=False)
    except (OSError, ValueError) as error:
        raise _not_loaded(name, error) from None
    return source, settings, read_facts(path)


def _task_name(settings: Any, facts: Mapping[str, Any]) -> str:
    """The task by what Headrace wrote, else by the name of the network's class."""
    if facts.get("task") in {*TASKS, *plug_in_names()}:
        return str(facts["task"])
    for ending, task in _TASK_OF_CLASS.items():
        if any(str(name).endswith(ending) for name in settings.architectures or ()):
            return task.name
    return TokenClassification.name


def _task_of(
    settings: Any, facts: Mapping[str, Any], where: str, head: str | None
) -> tuple[Task, Sequence[int]]:
    """The task of a model, and where its outputs are to be put in another order, that order."""
    kind = _task_name(settings, facts)
    if head is not None and kind != SequenceClassification.name:
        what = f"a model for {kind.replace('_', ' ')} has no heads to choose from"
        raise ConfigError(Problem(what, where, head, "Leave the head out"))
    task, order = task_class(kind).of_model(settings, facts, where)
    if head is None or not isinstance(task, SequenceClassification):
        return task, order
    names = [one.name for one in task.heads.all]
    if head not in names:
        raise ConfigError(
            Problem("the model has no such head", where, head, did_you_mean(head, names))
        )
    return SequenceClassification(task.heads.choosing(head)), order


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
            reader = ShardReader(url)
            if found := model.task.problems_of({language: reader}):
                problems += found
                continue
            sources[language] = encode_source(
                reader,
                model.task.encoder(model.tokenizer, model.max_length),
                cache_dir=cache_dir,
                language=language,
            ).living()
        except UserError as error:
            problems += error.problems
        else:
            problems += model.task.problems_of_encoded(sources[language])
    if problems:
        raise UserError(problems)
    return sources


def score(
    model: TrainedModel,
    sources: Mapping[str, EncodedSource],
    *,
    batch_size: int,
    title: str = "",
    observe: Observer | None = None,
) -> Validation:
    """Measure a model on encoded sources, exactly as a run does after each epoch.

    ``observe`` is shown what the model says.
    """
    total = sum(source.samples for source in sources.values())
    with tqdm(total=total, desc=title or "evaluating", unit=" samples", disable=None) as progress:

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
                observe=observe,
            )
        finally:
            hook.remove()
