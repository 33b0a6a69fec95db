"""A ZeRO checkpoint loaded by another number of ranks, or at another of the stages 1, 2 and 3.

Under ZeRO each rank saves pieces of flat tensors, in which the parameters of a group stand one
after the other.  Here every rank maps the files of all of them into memory, copies out what is
its own now, and gives DeepSpeed's loader the state that it would have saved itself.  Nothing is
written, so there is nothing that a kill or a full disk could leave half done.

DeepSpeed's universal checkpoints hold the same numbers (a test compares them), but they are a
second copy on the disk, know no optimizer but Adam, and give all parameter groups at stage 3 the
learning rate of the first.
"""

from __future__ import annotations

import copy
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch
from deepspeed.checkpoint import constants as keys

from headrace.errors import HeadraceError, Problem, UserError
from headrace.training.distributed import World, failing_together

_PARTITIONED = 3
"""The stage at which the weights are divided too, and parameters are cut up one by one."""
_WEIGHTS = "weights"
_SCALER = (keys.LOSS_SCALER, "dynamic_loss_scale", "overflow")


@dataclass(frozen=True)
class Piece:
    """Part of a flattened parameter that lies in a flat tensor."""

    name: str
    """Of the parameter."""
    start: int
    """First number of the parameter that is here."""
    offset: int
    """Where it is in the flat tensor."""
    numel: int


@dataclass(frozen=True)
class Flat:
    """A flat tensor of a rank."""

    group: int
    """Number of its parameter group."""
    numel: int
    """Numbers in it, with padding."""
    pieces: Sequence[Piece]


@dataclass
class SavedParameter:
    """Where the pieces of a parameter are: each with the flat tensors of its rank by key."""

    pieces: list[tuple[Piece, Mapping[str, torch.Tensor]]] = field(default_factory=list)

    @property
    def numel(self) -> int:
        """How much of the parameter has been found."""
        return sum(piece.numel for piece, _ in self.pieces)

    def read(self, key: str, start: int, numel: int) -> torch.Tensor:
        """Return numbers of the weights or of a state of the optimizer.

        Args:
            key: ``weights``, or the optimizer's name of the state.
            start: first number in the flattened parameter.
            numel: how many.

        Returns:
            Flat tensor on the CPU, in the type in which it was saved.
        """
        parts = []
        for piece, flat in self.pieces:
            first, end = max(start, piece.start), min(start + numel, piece.start + piece.numel)
            if first < end:
                where = piece.offset + first - piece.start
                parts.append(flat[key].narrow(0, where, end - first))
        return torch.cat(parts)


class SavedShards:
    """What all ranks saved of a network and its optimizer; tensors are read when they are used."""

    def __init__(self, folder: Path, *, ranks: int, stage: int) -> None:
        """Open the files of a checkpoint.

        Args:
            folder: the one that DeepSpeed wrote them to.
            ranks: how many wrote it.
            stage: ZeRO stage that they had, 1 to 3.

        Raises:
            UserError: if the checkpoint is divided in other ways too.
            OSError: if a file cannot be read.
        """
        self.folder = folder
        self.stage = stage
        pattern = "zero_pp_rank_{}_mp_rank_00" if stage == _PARTITIONED else "mp_rank_00"
        models = [
            folder / f"{pattern.format(rank)}{keys.MODEL_FILE_SUFFIX}"
            for rank in range(ranks if stage == _PARTITIONED else 1)
        ]
        self.models = [_read(path) for path in models]
        """What DeepSpeed saves beside the optimizer, by rank; below stage 3 of one rank."""
        self.parameters: dict[str, SavedParameter] = {}
        """Those that are trained, by name."""
        self.optimizer: dict[str, Any] = {}
        """State dict of the first rank's optimizer."""
        found = sorted(folder.glob(f"*{keys.OPTIM_FILE_SUFFIX}"))
        for rank in range(ranks):
            name = f"{keys.ZERO_FILE_PREFIX}{rank}_mp_rank_00{keys.OPTIM_FILE_SUFFIX}"
            paths = [path for path in found if path.name in (name, f"bf16_{name}")]
            if len(paths) != 1 or len(found) != ranks:
                raise _cannot_be_recut(folder, f"{len(found)} optimizer files of {ranks} ranks")
            self._add(_read(paths[0])[keys.OPTIMIZER_STATE_DICT], rank, ranks)
        for name, numel in self._sizes().items():
            if name not in self.parameters or self.parameters[name].numel != numel:
                raise _cannot_be_recut(folder, f"parts of {name} are missing or there twice")

    @property
    def base(self) -> Mapping[str, Any]:
        """State dict of the first rank's optimizer inside that of ZeRO."""
        return _base(self.optimizer)

    def _add(self, optimizer: dict[str, Any], rank: int, ranks: int) -> None:
        """Note what a rank has; ranks come in their order."""
        self.optimizer = self.optimizer or optimizer
        states = _base(optimizer)["state"]
        flats = optimizer[
            keys.FP32_FLAT_GROUPS
            if self.stage == _PARTITIONED
            else keys.SINGLE_PARTITION_OF_FP32_GROUPS
        ]
        for number, (weights, pieces) in enumerate(
            zip(flats, self._pieces(optimizer, rank, ranks), strict=True)
        ):
            tensors = {_WEIGHTS: weights, **_elementwise(states.get(number, {}))}
            for key, tensor in tensors.items():
                if tensor.dim() != 1 or tensor.numel() < weights.numel():
                    raise _cannot_be_recut(self.folder, f"{key} of the optimizer is no flat tensor")
            for piece in pieces:
                saved = self.parameters.setdefault(piece.name, SavedParameter())
                saved.pieces.append((piece, tensors))

    def _pieces(
        self, optimizer: Mapping[str, Any], rank: int, ranks: int
    ) -> Iterator[Sequence[Piece]]:
        """Give the pieces of each flat tensor of a rank."""
        if self.stage == _PARTITIONED:
            for shapes in self.models[rank][keys.PARAM_SHAPES]:
                yield _cut_up(
                    {name: math.prod(shape) for name, shape in shapes.items()}, rank, ranks
                )
            return
        for mapping in optimizer[keys.PARAM_SLICE_MAPPINGS]:
            yield [
                Piece(
                    name,
                    self.parameters[name].numel if name in self.parameters else 0,
                    address.start,
                    address.numel,
                )
                for name, address in mapping.items()
            ]

    def _sizes(self) -> dict[str, int]:
        """Numbers in each parameter that is trained."""
        groups = self.models[0][keys.PARAM_SHAPES]
        return {name: numel for shapes in groups for name, numel in _numels(shapes).items()}

    def frozen(self, name: str) -> torch.Tensor:
        """Return a parameter that the optimizer does not have, flat and perhaps with padding."""
        if self.stage < _PARTITIONED:
            value: torch.Tensor = self.models[0]["module"][name]
            return value.flatten()
        return torch.cat([model[keys.FROZEN_PARAM_FRAGMENTS][name] for model in self.models])

    def fill(self, flat: Flat, key: str) -> torch.Tensor:
        """Return a flat tensor of this rank, zeros where it is padding.

        Raises:
            HeadraceError: if weights are not those of the saved network.
        """
        filled: torch.Tensor | None = None
        for piece in flat.pieces:
            value = self.parameters[piece.name].read(key, piece.start, piece.numel)
            if key == _WEIGHTS:
                self._check(piece, value)
            if filled is None:
                filled = torch.zeros(flat.numel, dtype=value.dtype)
            filled[piece.offset : piece.offset + piece.numel] = value
        return torch.zeros(flat.numel) if filled is None else filled

    def _check(self, piece: Piece, value: torch.Tensor) -> None:
        """Compare weights with those of the network, which are saved whole below stage 3."""
        if self.stage == _PARTITIONED:
            return
        whole = self.models[0]["module"][piece.name].flatten()
        same = whole.narrow(0, piece.start, piece.numel)
        if not torch.equal(value.to(same.dtype), same):
            raise HeadraceError(
                f"{self.folder}: the optimizer's copy of {piece.name} is not that of the network, "
                "so the parameters lie in another order than DeepSpeed says"
            )


def load_resharded(
    engine: Any, folder: Path, world: World, *, ranks: int, stage: int
) -> dict[str, Any]:
    """Load a checkpoint of another number of ranks or another ZeRO stage; a collective.

    Args:
        engine: a DeepSpeed engine that has not trained yet, at stage 1, 2 or 3.
        folder: the one that DeepSpeed wrote the files to.
        world: the ranks of now.
        ranks: how many wrote it.
        stage: ZeRO stage that they had, 1 to 3.

    Returns:
        What was saved with the network, by name (``client_state`` of DeepSpeed).

    Raises:
        UserError: if the checkpoint cannot be divided anew, or read.
    """
    optimizer = engine.optimizer
    partitioned = engine.zero_optimization_stage() == _PARTITIONED
    if partitioned:
        optimizer.checkpoint_event_prologue()
    with failing_together(world):
        if engine.zero_nvme_offload_optimizer():
            raise _cannot_be_recut(folder, "zero_optimization.offload_optimizer.device nvme")
        saved = SavedShards(folder, ranks=ranks, stage=stage)
        state = _state_of_this_rank(engine, saved, world, partitioned)
    optimizer.load_state_dict(
        state_dict_list=[state] * world.size,
        load_optimizer_states=True,
        load_from_fp32_weights=True,
    )
    _load_untrained(engine, saved, world)
    if partitioned:
        optimizer.checkpoint_event_epilogue()
    else:
        optimizer.update_lp_params()
    common: dict[str, Any] = saved.models[0]
    for counter in ("global_steps", "global_samples", "skipped_steps"):
        setattr(engine, counter, common[counter])
    return common


def _state_of_this_rank(
    engine: Any, saved: SavedShards, world: World, partitioned: bool
) -> dict[str, Any]:
    """The state dict that this rank's optimizer would have saved."""
    flats = _layout_at_stage_3(engine, world) if partitioned else _layout(engine)
    states: dict[int, dict[str, Any]] = {}
    for number, flat in enumerate(flats):
        # all groups have taken the same steps: what is no tensor is the same on every rank
        first = saved.base["param_groups"][flat.group]["params"][0]
        like = saved.base["state"].get(first)
        if like is not None:
            own = _elementwise(like)
            states[number] = {
                # the optimizer counts in its tensors: no two groups may have the same one
                key: saved.fill(flat, key) if key in own else copy.deepcopy(value)
                for key, value in like.items()
            }
    groups = [
        {**group, "params": [number for number, flat in enumerate(flats) if flat.group == place]}
        for place, group in enumerate(saved.base["param_groups"])
    ]
    base = {"state": states, "param_groups": groups}
    weights = [saved.fill(flat, _WEIGHTS) for flat in flats]
    scaler = {key: saved.optimizer[key] for key in _SCALER if key in saved.optimizer}
    names = (
        (keys.OPTIMIZER_STATE_DICT, keys.FP32_FLAT_GROUPS)
        if partitioned
        else (keys.BASE_OPTIMIZER_STATE, keys.SINGLE_PARTITION_OF_FP32_GROUPS)
    )
    return {
        **engine.optimizer.state_dict(),
        **scaler,
        **dict(zip(names, (base, weights), strict=True)),
    }


def _layout(engine: Any) -> list[Flat]:
    """The flat tensors of this rank at stages 1 and 2: one a parameter group."""
    groups = engine.optimizer.param_groups
    pieces: list[list[Piece]] = [[] for _ in groups]
    for name, parameter in engine.module.named_parameters():
        part = getattr(parameter, "_hp_mapping", None)  # None: other ranks have it
        if part is not None:
            here, there = part.lp_fragment_address, part.hp_fragment_address
            pieces[part.param_group_index].append(Piece(name, here.start, there.start, here.numel))
    return [
        Flat(number, group["params"][0].numel(), pieces[number])
        for number, group in enumerate(groups)
    ]


def _layout_at_stage_3(engine: Any, world: World) -> list[Flat]:
    """The flat tensors of this rank at stage 3: some for each parameter group."""
    names = {parameter: name for name, parameter in engine.module.named_parameters()}
    optimizer = engine.optimizer
    return [
        Flat(
            optimizer.sub_group_to_group_id[number],
            optimizer.fp32_partitioned_groups_flat[number].numel(),
            _cut_up({names[item]: item.ds_numel for item in members}, world.rank, world.size),
        )
        for number, members in enumerate(optimizer.fp16_groups)
    ]


def _cut_up(numels: Mapping[str, int], rank: int, ranks: int) -> list[Piece]:
    """The pieces of a flat tensor at stage 3, where every parameter is divided over all ranks."""
    pieces, offset = [], 0
    for name, numel in numels.items():
        size = -(-numel // ranks)
        start = min(rank * size, numel)
        pieces.append(Piece(name, start, offset, min(size, numel - start)))
        offset += size
    return [piece for piece in pieces if piece.numel]


def _load_untrained(engine: Any, saved: SavedShards, world: World) -> None:
    """Load buffers, and the parameters that are frozen."""
    common = saved.models[0]
    buffers = dict(engine.module.named_buffers())
    for name in common[keys.BUFFER_NAMES]:
        buffers[name].data.copy_(common["module"][name])
    for name, parameter in engine.module.named_parameters():
        if parameter.requires_grad:
            continue
        value = saved.frozen(name)
        if not hasattr(parameter, "ds_tensor"):
            parameter.data.copy_(value[: parameter.numel()].view_as(parameter))
            continue
        size = parameter.ds_tensor.numel()
        start = min(world.rank * size, parameter.ds_numel)
        numel = min(size, parameter.ds_numel - start)
        parameter.ds_tensor.data[:numel].copy_(value[start : start + numel])


def _numels(shapes: Mapping[str, Sequence[int]]) -> dict[str, int]:
    return {name: math.prod(shape) for name, shape in shapes.items()}


def _base(optimizer: Mapping[str, Any]) -> Mapping[str, Any]:
    """The state dict of the optimizer that ZeRO wraps."""
    name = keys.BASE_OPTIMIZER_STATE
    base: Mapping[str, Any] = optimizer.get(name) or optimizer[keys.OPTIMIZER_STATE_DICT]
    return base


def _elementwise(state: Mapping[str, Any]) -> dict[str, torch.Tensor]:
    """The states that have a number for each of the weights; a counter of steps has none."""
    return {
        key: value for key, value in state.items() if torch.is_tensor(value) and value.dim() > 0
    }


def _read(path: Path) -> dict[str, Any]:
    """Read a file that DeepSpeed wrote; its tensors stay on the disk until they are used."""
    content: dict[str, Any] = torch.load(path, map_location="cpu", mmap=True, weights_only=False)
    return content


def _cannot_be_recut(folder: Path, value: str) -> UserError:
    return UserError(
        Problem(
            "the checkpoint is divided in a way that only as many ranks can load",
            str(folder),
            value,
            "Start with the ranks and the settings that wrote it",
        )
    )
