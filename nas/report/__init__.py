"""The report of a run, as one self-contained HTML page."""

from nas.report.page import write_report

__all__ = ["write_report"]
