"""A protocol: which family of heads trains each kind of task."""

from mambabench.probe.protocols import Protocol, RowSettings

PROTOCOL = Protocol(
    "nearest-mean",
    families={"multiclass": "mambabench_example.nearest_mean:steps"},
    settings=RowSettings(standardise=True),
    seeded=False,  # nothing is random: one seed
)
