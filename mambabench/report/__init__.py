"""Turn run records into statistics, tables, plots and a page.

The package is callable: ``mambabench.report(...)`` is the twin of ``mambabench report``.
"""

from mambabench.callable_package import make_callable

make_callable(__name__, "mambabench.report.verb:report")
