"""The report: what holds, checked now, with the scope in which it was checked."""

from feasible.report.checks import make_report
from feasible.report.report import Report
from feasible.report.row import Row

__all__ = ["Report", "Row", "make_report"]
