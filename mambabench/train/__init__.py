"""Train whole systems: DepMamba and MMML, from data to weights. ``mambabench.train(...)``."""

from mambabench.callable_package import make_callable

make_callable(__name__, "mambabench.train.verb:train")
