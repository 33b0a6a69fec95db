"""Results tables, plots, and one HTML page for a run; reads run folders and nothing else."""

from headrace.report.write import results_markdown, write_report, write_results_markdown

__all__ = ["results_markdown", "write_report", "write_results_markdown"]
