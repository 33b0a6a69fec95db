"""The trials of the selection experiment: what is trained on which rows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

Method = Literal[
    "graph_cut", "graph_cut_doc2vec", "facility_location", "random", "distinct", "distinct_random",
    "full",
]  # fmt: skip
METHODS: dict[Method, str] = {
    "graph_cut": "graph cut, encoder",
    "graph_cut_doc2vec": "graph cut, Doc2Vec",
    "facility_location": "facility location, encoder",
    "random": "random",
    "distinct_random": "no duplicates, then random",
    "distinct": "no duplicates, all",
    "full": "all rows",
}
"""What chooses the rows, and its name for people."""
TradeOff = float | Literal["balanced"]
"""lambda of a graph cut, or ``n/k - 2``."""
HALF = 0.5
"""Share of copies in the paper: its augmented data has twice the rows."""


@dataclass(frozen=True)
class Settings:
    """All that decides what comes out, but for the machine."""

    corpus: str
    """File of questions, see :mod:`headrace.corpus.readers`."""
    test: str | None
    """File of test questions; None: ``test_rows`` of ``corpus`` are held out, by their ids."""
    encoder: str
    """Folder of the encoder that embeds, and that is trained."""
    language: str = "en"
    seeds: tuple[int, ...] = (1, 2, 3)
    rows: int = 200
    """Questions before copies are added."""
    test_rows: int = 500
    copies: int = 100
    """Copies of each question that is drawn to be copied."""
    fractions: tuple[float, ...] = (0.05, 0.1, 0.25, 0.4, 0.6, 0.8)
    """Sizes of the parts, as shares of the rows with their copies."""
    sweep_fraction: float = 0.1
    """Size at which lambda, density and precision vary."""
    trade_off: float = 10.0
    trade_offs: tuple[TradeOff, ...] = (0.0, 1.0, 100.0, "balanced")
    """Further values of lambda; ``balanced`` is ``n/k - 2``."""
    densities: tuple[float, ...] = (0.0, 0.25, 0.75)
    """Further shares of copies among all rows."""
    epochs: int = 5
    batch_size: int = 8
    learning_rate: float = 1e-4
    max_length: int = 96


@dataclass(frozen=True)
class Trial:
    """One training."""

    seed: int
    method: Method
    rows: int
    """Rows to train on; 0 if the method decides."""
    trade_off: TradeOff | None = None
    """lambda of a graph cut."""
    density: float = HALF
    """Share of copies among the rows to choose from."""
    precision: Literal["bf16", "fp32"] = "bf16"

    @property
    def name(self) -> str:
        """Name of its folder."""
        parts = [f"seed-{self.seed}", self.method]
        parts += [f"rows-{self.rows}"] if self.rows else []
        parts += [] if self.trade_off is None else [f"lambda-{self.trade_off}"]
        parts += [] if self.density == HALF else [f"copies-{100 * self.density:g}"]
        parts += [] if self.precision == "bf16" else [self.precision]
        return "_".join(parts)


def trials_of(settings: Settings) -> list[Trial]:
    """Every trial, the long ones first within a seed."""
    total = 2 * settings.rows
    sizes = [round(fraction * total) for fraction in settings.fractions]
    one_size = round(settings.sweep_fraction * total)
    usual = settings.trade_off
    found: list[Trial] = []
    for seed in settings.seeds:
        own = [Trial(seed, "full", 0), Trial(seed, "distinct", 0)]
        for size in sizes:
            own += [Trial(seed, "graph_cut", size, usual)]
            own += [Trial(seed, "graph_cut_doc2vec", size, usual), Trial(seed, "random", size)]
            if size < settings.rows:
                # with more rows than there are distinct ones these would take all of them
                own += [
                    Trial(seed, "facility_location", size),
                    Trial(seed, "distinct_random", size),
                ]
        own += [Trial(seed, "graph_cut", one_size, value) for value in settings.trade_offs]
        for density in settings.densities:
            own += [Trial(seed, "graph_cut", one_size, usual, density)]
            own += [Trial(seed, "random", one_size, None, density)]
            own += [Trial(seed, "facility_location", one_size, None, density)]
        own += [Trial(seed, "random", one_size, precision="fp32")]
        found += sorted(own, key=lambda trial: -(trial.rows or total))
    return list(dict.fromkeys(found))
