"""How often languages are told rightly: measured, written down, and put into docs/languages.md.

``HEADRACE_DATA=DIR python scripts/language_table.py --measure`` measures and writes
``docs/results/languages.json``; without ``--measure`` the file is taken as it is.  What it says
goes between the markers ``<!-- languages -->`` of ``docs/languages.md``.
"""

from __future__ import annotations

import argparse
import gzip
import json
import os
import platform
import time
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from statistics import median
from typing import Any

from headrace.corpus.languages import LanguageSettings, canonical, identify, primary
from headrace.corpus.languages.detectors import Method, detector
from headrace.report import numbers
from headrace.report.table import Table

ROOT = Path(__file__).parents[1]
RESULT = ROOT / "docs" / "results" / "languages.json"
PAGE = ROOT / "docs" / "languages.md"
MARKER = "<!-- languages -->"
COMMAND = "HEADRACE_DATA=DIR python scripts/language_table.py --measure"
LANGUAGES = ("bn", "de", "en", "es", "fa", "fr", "hi", "it", "pt", "sv", "uk", "zh")
METHODS: tuple[Method, ...] = ("py3langid", "lingua")
"""Those whose models are in their packages."""
SETS = {
    "ntrex128": "ntrex128: sentences of news",
    "cv_sentences": "cv_sentences: sentences to be read aloud",
    "udhr": "udhr: paragraphs of the Universal Declaration of Human Rights",
}


def measure(data: Path, rows: int) -> dict[str, Any]:
    """All figures.

    Args:
        data: folder of the corpora.
        rows: of each language of a set at most, evenly spaced.
    """
    texts = {
        name: {language: sample(sentences(data, name, language), rows) for language in LANGUAGES}
        for name in SETS
    }
    return {
        "created": time.strftime("%Y-%m-%d", time.gmtime()),
        "command": COMMAND,
        "rows": rows,
        "environment": {"python": platform.python_version(), "machine": platform.machine()},
        "versions": {name: version(name) for name in ("py3langid", "lingua-language-detector")},
        "sets": {name: measure_set(languages) for name, languages in texts.items()},
        "mixed": measure_mixed(data),
        "unknown": {method: measure_unknown(data, method) for method in METHODS},
    }


def sentences(data: Path, name: str, language: str) -> list[str]:
    """The texts of a set in a language."""
    if name == "cv_sentences":
        path = data / name / f"{language}.txt"
        packed = path.with_name(path.name + ".gz")
        content = path.read_bytes() if path.exists() else gzip.decompress(packed.read_bytes())
        return content.decode("utf-8").splitlines()
    lines = (data / name / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    return [line.split("\t")[-1] for line in lines]


def sample(texts: Sequence[str], rows: int) -> list[str]:
    """At most so many, evenly spaced."""
    count = min(rows, len(texts))
    return [texts[index * len(texts) // count] for index in range(count)]


def measure_set(texts: Mapping[str, Sequence[str]]) -> dict[str, Any]:
    """By method: right answers by language, forced and with abstention, and the speed."""
    total = sum(map(len, texts.values()))
    result: dict[str, Any] = {
        "texts": {language: len(rows) for language, rows in texts.items()},
        "median_characters": {language: median(map(len, rows)) for language, rows in texts.items()},
    }
    for method in METHODS:
        every = LanguageSettings(method=method)
        forced = every.model_copy(update={"confidence": 0.0, "minimum_letters": 1})
        closed = forced.model_copy(update={"candidates": LANGUAGES})
        found: dict[str, Any] = {}
        for name, settings in (("default", every), ("forced", forced), ("closed", closed)):
            identify("a text that loads the models", None, settings)
            began = time.process_time()
            answers = {
                language: Counter(primary(identify(text, None, settings).detected) for text in rows)
                for language, rows in texts.items()
            }
            found[name] = {
                "per_second": total / (time.process_time() - began),
                "right": {language: answers[language][language] for language in LANGUAGES},
                "undetermined": {language: answers[language]["und"] for language in LANGUAGES},
                "mistaken": mistaken(answers),
            }
        result[method] = found
    return result


def mistaken(answers: Mapping[str, Counter[str]]) -> dict[str, int]:
    """The ten commonest mistakes, as ``language>answer``."""
    counts = Counter(
        {
            f"{language}>{answer}": count
            for language, found in answers.items()
            for answer, count in found.items()
            if answer not in (language, "und")
        }
    )
    return dict(counts.most_common(10))


def documents(data: Path, language: str) -> list[str]:
    """The documents of ntrex128, one sentence a line."""
    lines = (data / "ntrex128" / f"{language}.tsv").read_text(encoding="utf-8").splitlines()
    found = defaultdict(list)
    for line in lines:
        _, document, text = line.split("\t")
        found[document].append(text)
    return ["\n".join(texts) for texts in found.values()]


def measure_mixed(data: Path) -> dict[str, Any]:
    """Documents of ntrex128 as they are, and a document of one language after one of another."""
    whole = {language: documents(data, language) for language in LANGUAGES}
    result: dict[str, Any] = {"pure": {}, "mixed": {}}
    began, count = time.process_time(), 0
    pure: Counter[str] = Counter()
    for language, texts in whole.items():
        for text in texts:
            found = identify(text)
            count += 1
            pure["right"] += primary(found.detected) == language
            pure["mixed"] += bool(found.languages)
    result["pure"] = {"documents": count, "right": pure["right"], "mixed": pure["mixed"]}
    result["per_second"] = count / (time.process_time() - began)
    result["median_characters"] = median(len(text) for texts in whole.values() for text in texts)
    bins: dict[str, Counter[str]] = defaultdict(Counter)
    for first, one in enumerate(LANGUAGES):
        for second, other in enumerate(LANGUAGES):
            if one == other:
                continue
            for turn in range(3):
                number = first * 7 + second * 5 + turn * 29
                parts = [whole[one][number % 82], whole[other][(number + 11) % 82]]
                share = min(map(len, parts)) / sum(map(len, parts))
                name = "0.1 to 0.2" if share < 0.2 else "0.2 to 0.3" if share < 0.3 else "over 0.3"
                if share < 0.1:
                    continue
                found = {primary(tag) for tag in identify("\n".join(parts)).languages}
                bins[name]["documents"] += 1
                bins[name]["both"] += found == {one, other}
                bins[name]["others"] += bool(found - {one, other})
    result["mixed"] = {name: dict(bins[name]) for name in sorted(bins)}
    return result


def measure_unknown(data: Path, method: Method) -> dict[str, Any]:
    """Declarations of Human Rights in languages of which the method may know nothing."""
    known = {primary(tag) for tag in detector(method).languages}
    counts: Counter[str] = Counter()
    wrong = {}
    path = data / "near_duplicates" / "udhr_variants.jsonl"
    for line in path.read_text(encoding="utf-8").splitlines():
        row = json.loads(line)
        tag = canonical(row["iso639_3"])
        if tag is None or tag == "und":
            continue
        found = identify(row["text"], None, LanguageSettings(method=method))
        answer = primary(found.detected)
        kind = "known" if primary(tag) in known else "unknown"
        outcome = "right" if answer == primary(tag) else "und" if answer == "und" else "wrong"
        counts[f"{kind} {outcome}"] += 1
        if outcome == "wrong":
            wrong[row["id"]] = [found.detected, found.score]
    return {"counts": dict(sorted(counts.items())), "wrong": wrong}


def render(result: Mapping[str, Any]) -> str:
    """The tables, in Markdown."""
    versions = ", ".join(f"{name} {number}" for name, number in result["versions"].items())
    lines = [
        f"`{COMMAND}`, {result['created']}; {versions}; at most {result['rows']} texts of a "
        "language and set, evenly spaced. Texts a second of processor time of one core, on a "
        "machine that was busy with other work.",
    ]
    for name, title in SETS.items():
        table = set_table(title, result["sets"][name])
        lines += ["", f"**{table.title}**", "", table.markdown()]
        for method in METHODS:
            mistakes = result["sets"][name][method]["forced"]["mistaken"]
            listed = ", ".join(f"{pair} {count}" for pair, count in list(mistakes.items())[:6])
            lines += ["", f"Commonest mistakes of {method}, all languages: {listed}."]
    for table in (mixed_table(result["mixed"]), unknown_table(result["unknown"])):
        lines += ["", f"**{table.title}**", "", table.markdown()]
    return "\n".join(lines).replace("\n\n\n", "\n\n").strip() + "\n"


def set_table(title: str, found: Mapping[str, Any]) -> Table:
    """Accuracy by language."""
    columns = ["Language", "Texts", "Median length"]
    for method in METHODS:
        columns += [f"{method}: all", "of 12", "und", "right otherwise"]
    rows = []
    for language in LANGUAGES:
        count = found["texts"][language]
        row = [language, str(count), f"{found['median_characters'][language]:.0f}"]
        for method in METHODS:
            runs = found[method]
            answered = count - runs["default"]["undetermined"][language]
            row += [
                share(runs["forced"]["right"][language], count),
                share(runs["closed"]["right"][language], count),
                share(count - answered, count),
                share(runs["default"]["right"][language], answered),
            ]
        rows.append(tuple(row))
    total = sum(found["texts"].values())
    row = ["all", str(total), numbers.MISSING]
    speed = ["texts a second", numbers.MISSING, numbers.MISSING]
    for method in METHODS:
        sums = {
            (run, kind): sum(found[method][run][kind].values())
            for run in ("default", "forced", "closed")
            for kind in ("right", "undetermined")
        }
        answered = total - sums["default", "undetermined"]
        row += [
            share(sums["forced", "right"], total),
            share(sums["closed", "right"], total),
            share(total - answered, total),
            share(sums["default", "right"], answered),
        ]
        rates = [f"{found[method][run]['per_second']:,.0f}" for run in ("forced", "closed")]
        speed += [*rates, f"{found[method]['default']['per_second']:,.0f}", numbers.MISSING]
    return Table(title, tuple(columns), (*rows, tuple(row), tuple(speed)))


def mixed_table(found: Mapping[str, Any]) -> Table:
    """Documents in one language and in two."""
    pure = found["pure"]
    title = (
        f"Documents of ntrex128 (median {found['median_characters']:.0f} characters), py3langid, "
        f"{found['per_second']:,.0f} a second"
    )
    rows = [
        (
            "one language",
            str(pure["documents"]),
            f"{share(pure['right'], pure['documents'])} right",
            f"{pure['mixed']} taken for mixed",
        )
    ]
    for name, counts in found["mixed"].items():
        rows.append(
            (
                f"two, the smaller with a share of {name}",
                str(counts["documents"]),
                f"{share(counts['both'], counts['documents'])} with both",
                f"{counts['others']} with a third",
            )
        )
    return Table(title, ("Documents", "Count", "Found", "False"), tuple(rows))


def unknown_table(found: Mapping[str, Any]) -> Table:
    """What becomes of languages that a method does not know."""
    rows = []
    for method in METHODS:
        counts = found[method]["counts"]
        for kind in ("known", "unknown"):
            row = [method, kind]
            row += [
                str(counts.get(f"{kind} {outcome}", 0)) for outcome in ("right", "und", "wrong")
            ]
            rows.append(tuple(row))
    title = "Human Rights in 75 rare languages and varieties, whole texts (near_duplicates)"
    return Table(title, ("Method", "Language is", "Right", "und", "Wrong"), tuple(rows))


def share(part: int, whole: int) -> str:
    """In percent."""
    return numbers.percent(part / whole, 1) if whole else numbers.MISSING


def put_into(page: str, result: Mapping[str, Any]) -> str:
    """Return the page with the tables between its markers."""
    before, _, after = page.split(MARKER)
    return f"{before}{MARKER}\n{render(result)}{MARKER}{after}"


def main() -> None:
    """Run the script."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--measure", action="store_true", help="measure, not only render")
    parser.add_argument("--rows", type=int, default=500, help="texts of a language and set")
    arguments = parser.parse_args()
    if arguments.measure:
        result = measure(Path(os.environ["HEADRACE_DATA"]), arguments.rows)
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        RESULT.write_text(text, encoding="utf-8")
    result = json.loads(RESULT.read_text(encoding="utf-8"))
    PAGE.write_text(put_into(PAGE.read_text(encoding="utf-8"), result), encoding="utf-8")


if __name__ == "__main__":
    main()
