"""Turn clips into embeddings, once: read audio, batch, encode, store.

The package is callable: ``mambabench.extract(...)`` is the twin of ``mambabench extract``.
"""

from mambabench.callable_package import make_callable

make_callable(__name__, "mambabench.extract.verb:extract")
