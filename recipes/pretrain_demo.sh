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
# fine-tuning from it against training from scratch: ESC-10, the same held-out fold
small="--set embed_dim=128 --set depth=2 --set d_state=16 --set expand=2 --set ranks=1"
own="--set objective=classify --set clip_frames=600 --set batch_size=16 --set epochs=8 --set workers=1"
for start in scratch pretrained; do
    init=""
    [ $start = scratch ] || init="--init $out/train/ssam/demo/ssam-tiny-demo_1x64_fp32_r0"
    "$bin/mambabench" train ssam --task "esc10-$start" --data "$out/tasks/esc50-v2.0.0-esc10" \
        --out "$out" --seeds 2 $small $own --set loss=CE --set lr=1e-3 --set warmup=false $init
    for seed in 0 1; do
        "$bin/mambabench" evaluate "$out/train/ssam/esc10-$start/ssam_1x16_fp32_r$seed" \
            --data "$out/tasks/esc50-v2.0.0-esc10"
    done
done
# SSAMBA's discriminative accuracy and AuM's supervised accuracy, in their histories
"$bin/mambabench" train ssamba --task demo --data "$out/pool" --out "$out" --set embed_dim=48 \
    --set depth=4 --set n_frames=256 --set masks=80 --set batch_size=32 --set epochs=2 \
    --set evaluate_every=50 --set lr=1e-3 --set warmup=false --set workers=1
"$bin/mambabench" train aum --task demo --data "$out/tasks/wakeword6-v1-full" --out "$out" \
    --set embed_dim=48 --set depth=4 --set n_frames=304 --set batch_size=12 --set epochs=8 \
    --set lr=1e-3 --set loss=CE --set workers=1
"$bin/mambabench" curves "$out/train/ssam/demo/ssam-tiny-demo_1x64_fp32_r0" \
    "$out/train/ssamba/demo/ssamba/seed-000" "$out/train/aum/demo/aum/seed-000" --to "$out/curves.png"
