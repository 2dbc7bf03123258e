"""SUPERB's protocols: a family a kind of task, and the published recipes of its tasks.

``superb`` follows s3prl 0.4.18, its selections on test data included (ASV: the best checkpoint by
test trials); ``superb-clean`` selects on development data only: ER's development speakers are not
trained on, ASV's checkpoint is chosen on held-out training speakers.

Source: s3prl 0.4.18, the configurations of its downstreams; SUPERB (Yang et al. 2021), section 2.
"""

from __future__ import annotations

from dataclasses import replace

from mambabench.benchmarks.superb import TASKS
from mambabench.benchmarks.superb.notes import notes_of
from mambabench.benchmarks.task import Task
from mambabench.probe.families.recipes import LEARNING_RATES, HeadRecipe, SuiteSettings
from mambabench.probe.protocols import Protocol

__all__ = ["BY_KIND", "CLEAN", "PROTOCOL", "RECIPES", "recipe_of_task"]

# frames cost more than means: of PR's and ASV's rates the published one leads
RECIPES: dict[str, HeadRecipe] = {
    "KS": HeadRecipe(LEARNING_RATES, 200_000, 40, balanced=True),
    "IC": HeadRecipe(LEARNING_RATES, 200_000, 40),
    "SID": HeadRecipe(LEARNING_RATES, 200_000, 40),
    "ER": HeadRecipe(LEARNING_RATES, 30_000, 30),
    "PR": HeadRecipe((1e-2, 1e-3), 100_000, 100, batch_size=16, accumulation=2),
    "ASV": HeadRecipe((1e-4,), 200_000, 10, batch_size=50),
    # a slice of 32 is two batches of 16; few steps need larger rates
    "ASR": HeadRecipe((1e-4,), 200_000, 100, width=1024, shortened_rates=(3e-3,)),
    "SF": HeadRecipe(
        (1e-4,), 200_000, 100, width=1024, shortened_rates=(3e-3,), shortened_batch_size=16
    ),
    "SD": HeadRecipe((1e-4,), 30_000, 60, 8, 4, width=512, shortened_rates=(5e-3,)),
}
BY_KIND = {
    "multiclass": "IC",
    "slots": "IC",
    "sequence": "PR",
    "trials": "ASV",
    "text": "ASR",
    "slot_text": "SF",
    "diarization": "SD",
}


def recipe_of_task(task: Task) -> HeadRecipe:
    """Return the recipe of a SUPERB task, of another task that of its kind."""
    known = TASKS.get(task.name)
    return RECIPES[known.superb_name if known else BY_KIND[task.prediction_type]]


_FAMILIES = {
    kind: f"mambabench.probe.families.{module}:steps"
    for kind, module in {
        "multiclass": "utterances",
        "slots": "utterances",
        "sequence": "phones",
        "trials": "speakers",
        "queries": "queries",
        "text": "sequences",
        "slot_text": "sequences",
        "diarization": "diarization",
    }.items()
}
_UNFIT = {
    "multilabel": "SUPERB has no head for scene tasks with multilabel labels; use sound or a kit "
    "protocol",
    "events": "SUPERB has no head for event tasks with multilabel labels; use sound or a kit "
    "protocol",
}


def _protocol(name: str, clean: bool) -> Protocol:
    settings = SuiteSettings("superb", recipe_of_task, notes_of, clean)
    # 1: recurrent heads are narrower, learn faster and are evaluated less
    grids = {
        word: replace(settings, shorten=by, grid_version=1)
        for word, by in (("fast", 10), ("faster", 100))
    }
    return Protocol(name, _FAMILIES, settings, unfit=_UNFIT, grids=grids, version=2)


PROTOCOL = _protocol("superb", clean=False)
CLEAN = _protocol("superb-clean", clean=True)
