"""The report on one compilation: what the model costs, where its memory goes, and what each pass changed.

::

    history = History()
    final = Pipeline(passes, (history,)).run(captured)
    report = build_report(captured, final, history.records)
    report.to_json()   # data, one stable text per compilation
    report.to_html()   # one page that needs no network
"""

from penstock.report.collect import build_report, describe
from penstock.report.history import History, PassRecord
from penstock.report.model import Kernel, ProgramInfo, Report

__all__ = ["History", "Kernel", "PassRecord", "ProgramInfo", "Report", "build_report", "describe"]
