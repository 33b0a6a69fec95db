"""Fisher information of masked-language-model pre-training, measured on raw text.

A sample is a text with a share of its tokens masked; what is drawn from the network are the tokens
in their place.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import torch.distributed
from torch.nn.functional import cross_entropy
from transformers import AutoModelForMaskedLM, PreTrainedModel, PreTrainedTokenizerFast
from transformers.utils import logging as transformers_logging

from headrace.config import RunConfig
from headrace.config.penalty import EwcConfig
from headrace.encoding.language_model import special_ids
from headrace.errors import ConfigError, Problem, UserError
from headrace.shards.reader import ShardReader
from headrace.stream.digest import digest
from headrace.stream.feistel import Permutation, derive_key
from headrace.tasks.kept_places import logits_at
from headrace.tasks.masking import MASKED_SHARE
from headrace.training.distributed import World, failing_together
from headrace.training.fisher import fingerprint_of, mean_squared_gradients, stored_fisher
from headrace.training.layers import head_parameters
from headrace.training.sources import open_shards

logger = logging.getLogger(__name__)

_CACHE = ".headrace/fisher"
_TEXTS_A_STEP = 32
_RATE_OF_NEW_HEAD = 1e-3


class MaskedText(NamedTuple):
    """A text with a share of its tokens masked; int64 on the CPU."""

    ids: torch.Tensor
    """With masks, int64[tokens]."""
    places: torch.Tensor
    """Which of them are masked, int64[masked]."""
    tokens: torch.Tensor
    """What was there, int64[masked]."""


class MaskedLanguageModel:
    """The pretrained network of a run with its masked-language-model head, and texts.

    Nothing depends on the seed of a run, so that runs with other seeds share what is measured.
    """

    def __init__(
        self,
        config: RunConfig,
        penalty: EwcConfig,
        tokenizer: PreTrainedTokenizerFast,
        where: str,
    ) -> None:
        """Load the network and open the texts.

        Raises:
            UserError: with every problem, at ``where``, the path of the penalty: no such head,
                no mask token, texts that cannot be opened.
        """
        problems: list[Problem] = []
        self.settings = penalty
        self.tokenizer = tokenizer
        self.max_length = config.headrace.task.max_length
        self.readers: Sequence[ShardReader] = list(
            open_shards(config, penalty.text or (), problems).values()
        )
        if tokenizer.mask_token_id is None:
            problems.append(
                Problem("the tokenizer has no mask token", f"{where}.of", "masked_lm", _OTHER)
            )
        try:
            self.network, self.has_head = _load(str(config.headrace.model.pretrained))
        except (OSError, ValueError, KeyError) as error:
            reason = (str(error).strip().splitlines() or [type(error).__name__])[0][:200]
            problems.append(
                Problem(
                    f"no masked-language model can be made of the pretrained model: {reason}",
                    f"{where}.of",
                    str(config.headrace.model.pretrained),
                    _OTHER,
                )
            )
        else:
            if not self.has_head and penalty.fit_head is None:
                problems.append(
                    Problem(
                        "the pretrained model has no masked-language-model head, a new one would "
                        "predict nothing",
                        f"{where}.of",
                        str(config.headrace.model.pretrained),
                        f"Fit one first ({where}.fit_head: 500), or give a model with its head, or "
                        f"{_OTHER[0].lower()}{_OTHER[1:]}",
                    )
                )
        if problems:
            raise UserError(problems)

    def fisher(self, names: frozenset[str], world: World) -> dict[str, torch.Tensor]:
        """Return the Fisher information of the named parameters that the network has.

        A collective.  It is kept in ``cache_dir``, under a name that says all it depends on.
        """
        fit = None if self.has_head else self.settings.fit_head
        held = {
            name: parameter
            for name, parameter in self.network.named_parameters(remove_duplicate=False)
            if name in names
        }
        hashed = held if fit else dict(self.network.named_parameters())
        facts = {
            "model": fingerprint_of(hashed),
            "data": digest([reader.manifest.identity for reader in self.readers]),
            "settings": digest([self.settings.samples, self.share, fit, self.max_length]),
        }
        folder = Path(self.settings.cache_dir or _CACHE).expanduser()
        path = folder / f"masked-lm-{digest(facts)}.safetensors"
        return stored_fisher(path, facts, held, lambda: self._measure(held, fit, world), world)

    @property
    def share(self) -> float:
        """Share of the tokens of a text that are masked."""
        return self.settings.masked_share or MASKED_SHARE

    def _measure(
        self, held: Mapping[str, torch.nn.Parameter], fit: int | None, world: World
    ) -> dict[str, torch.Tensor]:
        self.network.to(world.device).eval()
        if fit is not None:
            self.fit_head(fit, world)
        _train_only(self.network, held.values())
        texts = self.texts("fisher", self.settings.samples, world)
        found = mean_squared_gradients(
            self._losses_of_drawn_tokens(texts, world), held, total=len(texts), world=world
        )
        self.network.cpu()
        return found

    def texts(self, purpose: str, count: int, world: World) -> list[list[int]]:
        """Return token ids of some texts, the same on every rank; longer ones are cut.

        At most as many as there are; those without a token are left out.  Raises ``UserError`` if
        none is left.
        """
        sizes = np.array(
            [shard.samples for reader in self.readers for shard in reader.manifest.shards]
        )
        places = [
            (reader, number)
            for reader in self.readers
            for number in range(len(reader.manifest.shards))
        ]
        ends = sizes.cumsum()
        permutation = Permutation(int(sizes.sum()), derive_key("masked LM", purpose))
        wanted = permutation(np.arange(min(count, permutation.size)))
        shards = np.searchsorted(ends, wanted, side="right")
        texts = []
        with failing_together(world):
            for shard, position in zip(shards.tolist(), wanted.tolist(), strict=True):
                reader, number = places[shard]
                inside = position - int(ends[shard] - sizes[shard])
                texts.append(reader.shard(number)[inside].text)
        encoded = self.tokenizer(texts, truncation=True, max_length=self.max_length)["input_ids"]
        special = special_ids(self.tokenizer)
        found = [ids for ids in encoded if not special.issuperset(ids)]
        if not found:
            urls = ", ".join(reader.url for reader in self.readers)
            raise UserError(Problem("none of the chosen texts has a token", urls))
        return found

    def masked(self, ids: list[int], key: int) -> MaskedText:
        """Return a text with a share of its tokens masked, at least one; `key` chooses them."""
        special = special_ids(self.tokenizer)
        places = torch.tensor([n for n, token in enumerate(ids) if token not in special])
        random = torch.Generator().manual_seed(key)
        count = max(1, round(self.share * len(places)))
        chosen = places[torch.randperm(len(places), generator=random)[:count]]
        whole = torch.tensor(ids)
        masked = whole.clone()
        masked[chosen] = int(self.tokenizer.mask_token_id)
        return MaskedText(masked, chosen, whole[chosen])

    def _losses_of_drawn_tokens(
        self, texts: Sequence[list[int]], world: World
    ) -> Iterator[torch.Tensor]:
        for number in range(world.rank, len(texts), world.size):
            key = derive_key("masked LM tokens", number)
            logits = self.logits([self.masked(texts[number], key)], world)
            random = torch.Generator().manual_seed(derive_key("masked LM draws", number))
            drawn = torch.multinomial(logits.detach().softmax(-1).cpu(), 1, generator=random)[:, 0]
            yield cross_entropy(logits, drawn.to(world.device), reduction="sum")

    def logits(self, texts: Sequence[MaskedText], world: World) -> torch.Tensor:
        """Return the logits of all masked tokens of some texts, fp32[tokens, vocabulary]."""
        sizes = [len(text.ids) for text in texts]
        ids = torch.full((len(texts), max(sizes)), int(self.tokenizer.pad_token_id or 0))
        mask = torch.zeros_like(ids)
        for row, text in enumerate(texts):
            ids[row, : sizes[row]] = text.ids
            mask[row, : sizes[row]] = 1
        rows = torch.cat([torch.full_like(text.places, row) for row, text in enumerate(texts)])
        places = torch.cat([text.places for text in texts])
        return logits_at(
            self.network,
            rows.to(world.device),
            places.to(world.device),
            input_ids=ids.to(world.device),
            attention_mask=mask.to(world.device),
        ).float()

    def fit_head(self, steps: int, world: World) -> None:
        """Train the head on the texts, and nothing else; each rank computes a share of each step.

        AdamW at a constant learning rate of 1e-3, without dropout.
        """
        named = dict(self.network.named_parameters(remove_duplicate=False))
        parameters = [named[name] for name in sorted(head_parameters(self.network))]
        _train_only(self.network, parameters)
        optimizer = torch.optim.AdamW(parameters, lr=_RATE_OF_NEW_HEAD, weight_decay=0.0)
        texts = self.texts("head", steps * _TEXTS_A_STEP, world)
        losses = []
        for step in range(steps):
            optimizer.zero_grad(set_to_none=False)
            sums = torch.zeros(2, dtype=torch.float64, device=world.device)
            start = step * _TEXTS_A_STEP
            own = [
                self.masked(texts[place % len(texts)], derive_key("masked LM head", place))
                for place in range(start + world.rank, start + _TEXTS_A_STEP, world.size)
            ]
            if own:
                real = torch.cat([text.tokens for text in own]).to(world.device)
                loss = cross_entropy(self.logits(own, world), real, reduction="sum")
                loss.backward()  # type: ignore[no-untyped-call]
                sums += torch.stack([loss.detach(), loss.new_tensor(len(real))])
            if world.size > 1:
                torch.distributed.all_reduce(sums)
            for parameter in parameters:
                if parameter.grad is None:  # a rank without a text of this step
                    parameter.grad = torch.zeros_like(parameter)
                if world.size > 1:
                    torch.distributed.all_reduce(parameter.grad)
                parameter.grad /= sums[1].float()
            optimizer.step()
            losses.append(float(sums[0] / sums[1]))
        if world.is_main:
            logger.info(
                "masked-language-model head: loss %.2f in the first steps, %.2f in the last of %d",
                np.mean(losses[:10]),
                np.mean(losses[-10:]),
                steps,
            )


_OTHER = 'Measure that of "stages", or take a penalty of type "l2_sp"'


def _load(name: str) -> tuple[PreTrainedModel, bool]:
    """Return the network in fp32, and whether its head is that of the folder."""
    torch.manual_seed(derive_key("masked LM weights"))
    with _without_report():
        network, loading = AutoModelForMaskedLM.from_pretrained(
            name, dtype=torch.float32, output_loading_info=True
        )
    missing = set(loading["missing_keys"])
    body = [key for key in missing if key.startswith(f"{network.base_model_prefix}.")]
    if body:
        raise ConfigError(
            Problem("the folder lacks weights of the network", name, ", ".join(sorted(body)[:5]))
        )
    return network, not missing


def _train_only(network: torch.nn.Module, parameters: Iterable[torch.nn.Parameter]) -> None:
    network.requires_grad_(False)
    for parameter in parameters:
        parameter.requires_grad_(True)


@contextmanager
def _without_report() -> Iterator[None]:
    """Keep transformers from a report of missing weights: that is said in the error."""
    level = transformers_logging.get_verbosity()
    transformers_logging.set_verbosity_error()
    try:
        yield
    finally:
        transformers_logging.set_verbosity(level)
