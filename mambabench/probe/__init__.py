"""Train and score every head of a plan on stored embeddings.

The package is callable: ``mambabench.probe(...)`` is the twin of ``mambabench probe``.
"""

from mambabench.callable_package import make_callable

make_callable(__name__, "mambabench.probe.verb:probe")
