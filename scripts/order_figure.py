"""Draw docs/images/order.svg, how a position becomes a sample, from a small stage of the library.

python scripts/order_figure.py docs/images/order.svg
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from headrace.report.palette import LIGHT
from headrace.stream.feistel import Permutation, derive_key, derive_keys
from headrace.stream.order import SourceOrder
from headrace.stream.plan import Source, StagePlan

SEED, STAGE, BLOCK, WINDOW = 8, "figure", 16, 2
SHARDS = {"en": (7, 6, 5, 8), "hi": (4, 4), "sw": (3, 3)}
EPOCH, POSITION = 1, 24
"""The position that the figure follows."""
NAMES = list(SHARDS)
COLOURS = dict(zip(NAMES, LIGHT.series, strict=False))
WIDTH, LEFT = 1000, 32
PATH = LIGHT.ink


def main(path: Path) -> None:
    """Draw the figure into a file."""
    plan = StagePlan(
        [Source(name, f"memory://{name}", sizes, name) for name, sizes in SHARDS.items()],
        seed=SEED,
        stage=STAGE,
        temperature=0.6,
        block=BLOCK,
        shard_window=WINDOW,
    )
    path.write_text(_figure(plan), encoding="utf-8")


def _figure(plan: StagePlan) -> str:
    parts: list[str] = []
    length = plan.samples_per_epoch
    block = POSITION // BLOCK
    start, end = block * BLOCK, min(block * BLOCK + BLOCK, length)
    counts = plan.stage_mixture.counts
    before, after = counts(EPOCH * length + start), counts(EPOCH * length + end)

    # 1: the stage
    top = 58
    parts.append(
        _heading(
            top - 16,
            "1",
            "The stage",
            f"epochs of {length} positions, in blocks of {BLOCK}; the colour is the source",
        )
    )
    cell, gap = 11.2, 26
    for epoch in range(2):
        found = plan.locate(epoch, np.arange(length)).source.tolist()
        left = LEFT + epoch * (length * cell + gap)
        parts += [
            _cell(left + number * cell, top, cell, 24, COLOURS[NAMES[source]])
            for number, source in enumerate(found)
        ]
        for edge in range(0, length, BLOCK):
            parts.append(_line(left + edge * cell, top - 4, left + edge * cell, top + 28))
        parts.append(_line(left + length * cell, top - 4, left + length * cell, top + 28))
        parts.append(_text(left, top + 44, f"epoch {epoch}", LIGHT.muted))
    stage_left = LEFT + EPOCH * (length * cell + gap)
    shown = (stage_left + start * cell, stage_left + end * cell)
    parts.append(_frame(shown[0], top - 2, shown[1] - shown[0], 28))

    # 2: the block
    wide, block_left, block_top = 34, LEFT + 60, 176
    size = end - start
    parts.insert(0, _zoom(shown, top + 26, (block_left, block_left + size * wide), block_top))
    parts.append(
        _heading(
            block_top - 18,
            "2",
            "The block",
            "so many slots for each source as its share, exactly; "
            "the positions are shuffled over them",
        )
    )
    key = derive_keys(
        derive_key("blocks", SEED, STAGE), np.array([EPOCH * -(-length // BLOCK) + block])
    )
    slots = Permutation(size, int(key[0]))(np.arange(size)).tolist()
    owners = [n for n in range(len(NAMES)) for _ in range(after[n] - before[n])]
    slot_top = block_top + 104
    for number, slot in enumerate(slots):
        colour = COLOURS[NAMES[owners[slot]]]
        chosen = number == POSITION - start
        x, y = block_left + (number + 0.5) * wide, block_left + (slot + 0.5) * wide
        parts.append(_curve(x, block_top + 26, y, slot_top, colour, chosen))
    for number, slot in enumerate(slots):
        x = block_left + number * wide
        parts.append(
            _cell(x, block_top, wide, 26, COLOURS[NAMES[owners[slot]]], f"{start + number}")
        )
        parts.append(
            _cell(x, slot_top, wide, 26, COLOURS[NAMES[owners[number]]], NAMES[owners[number]])
        )
    slot = slots[POSITION - start]
    source = owners[slot]
    parts.append(_frame(block_left + (POSITION - start) * wide, block_top, wide, 26))
    parts.append(_frame(block_left + slot * wide, slot_top, wide, 26))
    drawn = int(before[source]) + slot - owners.index(source)
    side = block_left + size * wide + 22
    parts.append(_text(side, block_top + 17, f"position {POSITION} of epoch {EPOCH}", LIGHT.ink))
    parts.append(_text(side, slot_top + 17, f"draw {drawn} from {NAMES[source]}", LIGHT.ink))

    # 3: the passes
    name = NAMES[source]
    sizes, total = SHARDS[name], sum(SHARDS[name])
    number, place = divmod(drawn, total)
    order = SourceOrder(sizes, WINDOW, SEED, STAGE, name, 0)
    pass_top, small = 384, 10.6
    parts.append(
        _heading(
            pass_top - 34,
            "3",
            "The source",
            f"{name} is gone through again and again; each pass has an order of its shards, "
            f"in windows of {WINDOW}",
        )
    )
    lefts = [LEFT + each * (total * small + 24) for each in range(3)]
    for each, left in enumerate(lefts):
        order_of_pass = order.of_pass(each)
        for shard, begin in zip(
            order_of_pass.shards.tolist(), order_of_pass.starts.tolist(), strict=False
        ):
            span = sizes[shard] * small
            parts.append(
                _cell(left + begin * small, pass_top, span, 26, COLOURS[name], f"shard {shard}")
            )
        for edge in order_of_pass.window_starts.tolist():
            x = left + edge * small
            parts.append(_line(x, pass_top - 5, x, pass_top + 31))
        parts.append(
            _text(
                left,
                pass_top + 48,
                f"pass {each + 1}: draws {each * total} to {each * total + total - 1}",
                LIGHT.muted,
            )
        )
    here = order.of_pass(number)
    slot_x = block_left + (slot + 0.5) * wide
    place_x = lefts[number] + (place + 0.5) * small
    parts.append(_curve(slot_x, slot_top + 26, place_x, pass_top, PATH, True))
    window = int(np.searchsorted(here.window_starts, place, side="right")) - 1
    window_start, window_end = here.window_starts[window : window + 2].tolist()
    shown = (lefts[number] + window_start * small, lefts[number] + window_end * small)
    parts.append(_frame(shown[0], pass_top, shown[1] - shown[0], 26))

    # 4: the window of shards
    window_top, wide = 500, 34
    count = window_end - window_start
    window_left = LEFT + 60
    parts.insert(
        0, _zoom(shown, pass_top + 26, (window_left, window_left + count * wide), window_top)
    )
    parts.append(
        _heading(
            window_top - 18, "4", "The window", "its samples are shuffled over all of its shards"
        )
    )
    key = derive_keys(here.key, np.array([window]))
    shuffled = Permutation(count, int(key[0]))(np.arange(count)).tolist()
    sample_top = window_top + 104
    chosen_place = place - window_start
    for each, target in enumerate(shuffled):
        x, y = window_left + (each + 0.5) * wide, window_left + (target + 0.5) * wide
        parts.append(_curve(x, window_top + 26, y, sample_top, COLOURS[name], each == chosen_place))
    members = here.shards[window * WINDOW : (window + 1) * WINDOW].tolist()
    rows = [(shard, sample) for shard in members for sample in range(sizes[shard])]
    for each, (shard, sample) in enumerate(rows):
        x = window_left + each * wide
        parts.append(_cell(x, window_top, wide, 26, COLOURS[name], f"{window_start + each}"))
        parts.append(_cell(x, sample_top, wide, 26, COLOURS[name], f"{sample}"))
        if sample == 0:
            parts.append(_line(x, sample_top - 5, x, sample_top + 44))
            parts.append(_text(x + 5, sample_top + 43, f"shard {shard}", LIGHT.muted))
    target = shuffled[chosen_place]
    parts.append(_frame(window_left + chosen_place * wide, window_top, wide, 26))
    parts.append(_frame(window_left + target * wide, sample_top, wide, 26))
    shard, sample = rows[target]
    side = window_left + count * wide + 22
    parts.append(_text(side, window_top + 17, f"place {place} of pass {number + 1}", LIGHT.ink))
    parts.append(
        _text(
            side, sample_top + 17, f"{name}, shard {shard}, sample {sample}", LIGHT.ink, bold=True
        )
    )

    headings = [part for part in parts if "paint-order" in part]
    parts = [part for part in parts if part not in headings] + headings
    found = plan.locate(EPOCH, np.array([POSITION]))
    assert [found.source[0], found.shard[0], found.sample[0]] == [source, shard, sample]
    height = sample_top + 66
    label = "From a position of the stage to a sample: stage, block, pass, window of shards"
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" role="img" '
        f'aria-label="{label}" font-family="system-ui, sans-serif" font-size="13">\n'
        f"<title>{label}</title>\n"
        f'<rect width="{WIDTH}" height="{height}" rx="8" fill="{LIGHT.card}"/>\n'
        + "\n".join(parts)
        + "\n</svg>\n"
    )


def _heading(y: float, number: str, title: str, text: str) -> str:
    return (
        f'<text x="{LEFT - 8}" y="{y:g}" paint-order="stroke" stroke="{LIGHT.card}" '
        f'stroke-width="5" stroke-linejoin="round"><tspan font-weight="700" '
        f'fill="{LIGHT.accent}">{number}  {title}</tspan>'
        f'<tspan dx="10" fill="{LIGHT.muted}">{text}</tspan></text>'
    )


def _text(x: float, y: float, text: str, colour: str, *, bold: bool = False) -> str:
    weight = ' font-weight="700"' if bold else ""
    return f'<text x="{x:g}" y="{y:g}" fill="{colour}"{weight}>{text}</text>'


def _cell(x: float, y: float, width: float, height: float, colour: str, label: str = "") -> str:
    cell = (
        f'<rect x="{x + 0.75:.2f}" y="{y}" width="{width - 1.5:.2f}" height="{height}" rx="2" '
        f'fill="{colour}"/>'
    )
    if label:
        cell += (
            f'<text x="{x + width / 2:.2f}" y="{y + height / 2 + 4:g}" text-anchor="middle" '
            f'font-size="11.5" fill="{LIGHT.card}">{label}</text>'
        )
    return cell


def _frame(x: float, y: float, width: float, height: float) -> str:
    return (
        f'<rect x="{x - 1:.2f}" y="{y - 2:g}" width="{width + 2:.2f}" height="{height + 4:g}" '
        f'rx="3" fill="none" stroke="{PATH}" stroke-width="2.4"/>'
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> str:
    return (
        f'<line x1="{x1:.2f}" y1="{y1:g}" x2="{x2:.2f}" y2="{y2:g}" stroke="{LIGHT.muted}" '
        'stroke-width="1.4"/>'
    )


def _curve(x1: float, y1: float, x2: float, y2: float, colour: str, chosen: bool) -> str:
    middle = (y1 + y2) / 2
    look = f'stroke="{PATH}" stroke-width="2.4"' if chosen else f'stroke="{colour}" opacity="0.4"'
    return (
        f'<path d="M{x1:.2f} {y1:g}C{x1:.2f} {middle:g} {x2:.2f} {middle:g} {x2:.2f} {y2:g}" '
        f'fill="none" {look}/>'
    )


def _zoom(above: tuple[float, float], top: float, below: tuple[float, float], bottom: float) -> str:
    points = (
        f"{above[0]:.2f},{top:g} {above[1]:.2f},{top:g} {below[1]:g},{bottom} {below[0]:g},{bottom}"
    )
    return f'<polygon points="{points}" fill="{LIGHT.paper}"/>'


if __name__ == "__main__":
    main(Path(sys.argv[1]))
