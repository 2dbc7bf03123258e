#!/bin/sh
# Pretrain ssam_tiny_demo on real audio with one core, and say what it is worth.
# usage: recipes/pretrain_demo.sh TEST_DATA [OUT]
#   TEST_DATA  folder with unpack.py, which writes the tasks in HEAR's layout
#   OUT        output folder (default: pretrain-demo-out); the same command continues
# Twenty to thirty minutes. No clip that is tested is pretrained on: see perf/pretrain_demo.py.
set -eu
data=$1
out=${2:-pretrain-demo-out}
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
export OMP_NUM_THREADS=1
[ -d "$out/source" ] || "$bin/python" "$data/unpack.py" "$out/source"
[ -d "$out/pool" ] || "$bin/python" perf/pretrain_demo.py prepare "$out/source" "$out"
"$bin/mambabench" data precompute "$out/pool" --to "$out/tars" --jobs 1 --clips-per-tar 512
tasks=emodb-v1-full,esc50-v2.0.0-esc10,fsdd_digit_loso-v1.0.9-full,fsdd_speaker-v1.0.9-full
tasks=$tasks,instr_pitch-v1-full,wakeword6-v1-full
"$bin/mambabench" train ssam --recipe ssam-tiny-demo --data "$out/tars" --out "$out" --resume \
    --tasks "$out/tasks" --probe "$tasks@2"
"$bin/python" perf/pretrain_demo.py judge "$out"
