"""``headrace report``: the results page and tables of a run, or the page of a corpus."""

from __future__ import annotations

import argparse

HELP = "write report.html of a run or of a corpus and print its results"
EXAMPLE = (
    "headrace report runs/multiconer --compare runs/multiconer-seed2 runs/multiconer-seed3\n"
    "  headrace report corpus --speakers speakers.csv --tokenizer tokenizer"
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the options of the command."""
    parser.add_argument(
        "run_dir",
        metavar="RUN_DIR|CORPUS",
        help="run folder that training wrote, the run may still be going; or folder of a corpus",
    )
    parser.add_argument(
        "--compare",
        nargs="+",
        default=[],
        metavar="RUN_DIR|CORPUS",
        help="other runs (seeds, variants): adds mean and sample standard deviation over all "
        "runs; or other corpora, side by side",
    )
    parser.add_argument(
        "--speakers",
        metavar="CSV",
        help="with CORPUS: columns language and speakers, to compare the shares of languages with",
    )
    parser.add_argument(
        "--tokenizer",
        metavar="TOKENIZER",
        help="with CORPUS: folder or name of the tokenizer whose tokens are counted",
    )
    parser.add_argument(
        "--token-sample",
        type=int,
        metavar="N",
        help="count tokens in so many documents of each language and source, and estimate the "
        "others from them (default: count all)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Write the files, and print the tables."""
    from headrace.corpus.catalogue.schema import CORPUS_NAME
    from headrace.shards import storage

    folder = arguments.run_dir
    if not storage.is_empty(folder) and storage.exists(storage.join(folder, CORPUS_NAME)):
        return _report_corpus(arguments)
    return _report_run(arguments)


def _report_run(arguments: argparse.Namespace) -> int:
    from headrace.errors import Problem, UserError
    from headrace.report import tables, write_report, write_results_markdown
    from headrace.report.run_folder import read_run_folder
    from headrace.shards import storage

    problems: list[Problem] = []
    for option in ("speakers", "tokenizer", "token_sample"):
        value = getattr(arguments, option)
        if value is not None:
            remedy = "Leave it out, or name the folder of a corpus"
            where = f"--{option.replace('_', '-')}"
            problems.append(Problem("only for a corpus", where, str(value), remedy))
    runs = []
    named = [("RUN_DIR", arguments.run_dir), *(("--compare", text) for text in arguments.compare)]
    for option, text in named:
        try:
            runs.append(read_run_folder(storage.local_folder(text, option)))
        except UserError as error:
            problems += error.problems
    if problems:
        raise UserError(problems)
    this, *others = runs
    folders = [run.path for run in others]
    markdown = write_results_markdown(this.path, folders)
    page = write_report(this.path, folders)
    for note in tables.notes(this):
        print(note)
    headline = tables.headline_table(this)
    if headline.rows:
        print(headline.text())
    if others:
        print(tables.comparison_table([this, *others]).text())
    print(f"Wrote {markdown} and {page}")
    return 0


def _report_corpus(arguments: argparse.Namespace) -> int:
    from headrace.corpus.catalogue.speakers import read_speakers
    from headrace.errors import CorpusError, Problem
    from headrace.report.corpus_tables import language_table
    from headrace.report.write_corpus import PAGE_NAME, REPORT_NAME, write_corpus_report
    from headrace.shards import storage

    sample = arguments.token_sample
    if sample is not None and (sample < 1 or arguments.tokenizer is None):
        remedy = "Give --tokenizer, and a number of 1 or more"
        raise CorpusError(Problem("needs a tokenizer", "--token-sample", str(sample), remedy))
    speakers = None if arguments.speakers is None else read_speakers(arguments.speakers)
    summary = write_corpus_report(
        arguments.run_dir, arguments.compare, speakers, arguments.tokenizer, sample
    )
    print(language_table(summary).text())
    written = [storage.join(arguments.run_dir, name) for name in (PAGE_NAME, REPORT_NAME)]
    print(f"Wrote {' and '.join(written)}")
    return 0
