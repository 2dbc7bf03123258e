#!/bin/sh
# Ten seeds of the probe `sound` on nine small tasks of real audio, two encoders.
# usage: recipes/real_audio.sh TEST_DATA [OUT]
#   TEST_DATA  folder with unpack.py, which writes the tasks in HEAR's layout
#   OUT        output folder (default: real-audio-out); the same command continues
# The tables of results/real_audio were made by this script; it writes them anew, beside a
# logistic regression on the same embeddings and folds.
set -eu
data=$1
out=${2:-real-audio-out}
cd "$(dirname "$0")/.."
scripts/setup
bin=${VENV:-.venv}/bin
[ -d "$out/tasks" ] || "$bin/python" "$data/unpack.py" "$out/tasks"
"$bin/mambabench" run --tasks "$out/tasks" --out "$out" --seeds 10 --protocol sound \
    --encoder logmel_stats --encoder ssam_tiny_random
"$bin/python" perf/real_audio.py "$out"
