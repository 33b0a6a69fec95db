"""Fisher information: how much each weight matters for what a network predicts.

The diagonal of the true Fisher information is the mean over samples x of the squared gradient of
log p(y | x), with labels y that are drawn from the network itself.  It is not the square of the
gradient of a batch, and not that of the labels of the data (the empirical Fisher information):
both are other quantities.  A sample of many labels, such as a sentence of tags, is one observation.

Samples are computed one by one: this holds for every network, and what it costs is paid once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import safetensors
import torch
import torch.distributed
from safetensors.torch import load_file, save

from headrace.encoding.sidecar import EncodedSource
from headrace.errors import HeadraceError, Problem, UserError
from headrace.shards import storage
from headrace.stream.feistel import derive_key
from headrace.stream.plan import Locations
from headrace.tasks.task import Task
from headrace.training.data import collate
from headrace.training.distributed import World, failing_together, gather_json

FORMAT = "headrace fisher 1"
"""Grows whenever the same facts give other numbers."""


def fingerprint_of(weights: Mapping[str, torch.Tensor]) -> str:
    """Return a digest of weights: names, shapes and every bit, whatever files they came from."""
    found = hashlib.sha256()
    for name in sorted(weights):
        value = weights[name].detach().float().cpu().contiguous()
        found.update(f"{name}{list(value.shape)}".encode())
        found.update(value.view(-1).view(torch.uint8).numpy().data)
    return found.hexdigest()


def mean_squared_gradients(
    losses: Iterable[torch.Tensor],
    parameters: Mapping[str, torch.nn.Parameter],
    *,
    total: int,
    world: World,
) -> dict[str, torch.Tensor]:
    """Return the mean over samples of the squared gradient of their losses, fp32 on the CPU.

    A collective: each rank gives the losses of its own samples.

    Args:
        losses: minus log-probabilities, one a sample; computed when it is asked for.
        parameters: by name; one without a part in a loss has a gradient of 0.
        total: samples over all ranks.
        world: the ranks.

    Raises:
        HeadraceError: if a mean is no number.
    """
    sums = {
        name: torch.zeros_like(value, dtype=torch.float32) for name, value in parameters.items()
    }
    for loss in losses:
        gradients = torch.autograd.grad(loss, list(parameters.values()), allow_unused=True)
        for added, gradient in zip(sums.values(), gradients, strict=True):
            if gradient is not None:
                added.addcmul_(gradient.float(), gradient.float())
    for name, added in sums.items():
        if world.size > 1:
            torch.distributed.all_reduce(added)
        added /= total
        if not torch.isfinite(added).all():
            raise HeadraceError(f"the Fisher information of {name} is no number")
    return {name: added.cpu() for name, added in sums.items()}


def losses_of_drawn_labels(
    network: torch.nn.Module,
    task: Task,
    sources: Sequence[EncodedSource],
    samples: Locations,
    *,
    pad: int,
    seed: int,
    world: World,
) -> Iterator[torch.Tensor]:
    """Give the loss of each of this rank's samples, with labels drawn from the network.

    Args:
        network: on the device, in evaluation mode.
        task: draws labels, and computes the loss.
        sources: encoded sources.
        samples: all samples; every ``world.size``-th is this rank's.
        pad: id of the padding token.
        seed: of the labels; a sample gets the same ones on any number of ranks.
        world: the ranks.
    """
    for number in range(world.rank, len(samples), world.size):
        batch: dict[str, Any] = {
            name: tensor.to(world.device)
            for name, tensor in collate(
                task, sources, samples.take(slice(number, number + 1)), pad
            ).items()
        }
        with torch.no_grad():
            _, logits = task.loss_sum(network, batch, training=False)
        random = torch.Generator().manual_seed(derive_key("fisher labels", seed, number))
        batch.update(task.draw_labels(logits, batch, random))
        loss, _ = task.loss_sum(network, batch, training=False)
        yield loss


def stored_fisher(
    path: Path,
    facts: Mapping[str, str],
    names: Iterable[str],
    measure: Callable[[], Mapping[str, torch.Tensor]],
    world: World,
) -> dict[str, torch.Tensor]:
    """Return Fisher information from a file, which is made first where it does not exist.

    A collective.  The file holds whole tensors, so that it serves any number of ranks.

    Args:
        path: file, in a folder that all ranks see.
        facts: what the numbers depend on, short texts; stored with them.
        names: parameters that it has to hold.
        measure: gives the numbers; called on all ranks.
        world: the ranks.

    Raises:
        UserError: if the file is damaged, or one of other facts, such as of another model.
    """
    if not gather_json(world.is_main and path.exists(), world)[0]:
        found = measure()
        with failing_together(world):
            if world.is_main and not path.exists():  # another job may have been faster
                path.parent.mkdir(parents=True, exist_ok=True)
                content = save(dict(found), metadata={"format": FORMAT, **facts})
                storage.write_atomically(str(path), content)
    with failing_together(world):
        return read_fisher(path, facts, names)


def read_fisher(
    path: Path, facts: Mapping[str, str], names: Iterable[str]
) -> dict[str, torch.Tensor]:
    """Read a file of Fisher information, see :func:`stored_fisher`.

    Raises:
        UserError: as there.
    """
    remedy = "Remove the file, it is made again"
    try:
        with safetensors.safe_open(str(path), framework="pt") as file:
            found = file.metadata() or {}
            there = set(file.keys())
        problems = [
            Problem(
                f"the Fisher information is that of another {key}",
                str(path),
                f"{found.get(key)}, not {value}",
                remedy,
            )
            for key, value in {"format": FORMAT, **facts}.items()
            if found.get(key) != value
        ]
        missing = sorted(set(names) - there)
        if missing and not problems:
            what = "the Fisher information lacks parameters of the network"
            problems.append(Problem(what, str(path), ", ".join(missing[:5]), remedy))
        if problems:
            raise UserError(problems)
        return load_file(path)
    except safetensors.SafetensorError as error:
        what = f"the Fisher information cannot be read: {error}"
        raise UserError(Problem(what, str(path), remedy=remedy)) from None
