#!/bin/sh
# Show on real audio that SSAMBA and AuM learn, and fine-tune SSAM pretrained against from scratch.
# usage: recipes/learning.sh TEST_DATA [OUT]
#   TEST_DATA  folder with unpack.py, which writes the tasks in HEAR's layout
#   OUT        output folder (default: pretrain-demo-out, that of pretrain_demo.sh); the same command
#              continues
# About twenty minutes of one core, six of them for the five folds of ESC-10, twice.
set -eu
data=$1
out=${2:-pretrain-demo-out}
cd "$(dirname "$0")/.."
bin=${VENV:-.venv}/bin
export OMP_NUM_THREADS=1
[ -d "$out/source" ] || "$bin/python" "$data/unpack.py" "$out/source"
[ -d "$out/pool" ] || "$bin/python" perf/pretrain_demo.py prepare "$out/source" "$out"
"$bin/python" perf/pretrain_demo.py fold "$out/source" "$out" fsdd_digit-v1.0.9-full
train() { "$bin/mambabench" train "$@" --out "$out" --resume --set workers=1; }
# pools: without FSDD (clips of half a second are mostly padding), and without any clip of ESC-10
for skipped in fsdd esc50; do
    mkdir -p "$out/pool-without-$skipped"
    for clip in "$out"/pool/*; do
        case $(basename "$clip") in
            "$skipped"*) ;;
            *) ln -sf "$(readlink -f "$clip")" "$out/pool-without-$skipped/$(basename "$clip")" ;;
        esac
    done
done
small="--set embed_dim=64 --set depth=4"
train aum --task fsdd_digit --data "$out/tasks/fsdd_digit-v1.0.9-full" $small --set n_frames=96 \
    --set batch_size=16 --set epochs=14 --set lr=5e-4 --set loss=CE --set freqm=24 --set timem=16 \
    --set decay_start=9 --set decay_step=2
train ssamba --task demo --data "$out/pool-without-fsdd" $small --set n_frames=256 --set masks=80 \
    --set batch_size=32 --set epochs=10 --set evaluate_every=44 --set lr=1e-3 --set warmup=false
"$bin/mambabench" data precompute "$out/pool-without-esc50" --to "$out/tars-without-esc50" --jobs 1 \
    --clips-per-tar 512
train ssam --recipe ssam-tiny-demo --task no-esc --data "$out/tars-without-esc50" \
    --set epochs=4 --set warmup_epochs=1
for start in scratch pretrained; do
    init=""
    [ $start = scratch ] || init="--init $out/train/ssam/no-esc/ssam-tiny-demo_1x64_fp32_r0"
    train ssam --task "esc10-$start" --data "$out/source/esc50-v2.0.0-esc10" --set ranks=1 \
        --set embed_dim=128 --set depth=2 --set d_state=16 --set expand=2 --set objective=classify \
        --set clip_frames=400 --set batch_size=8 --set epochs=8 --set decay_start=5 \
        --set decay_step=1 --set freqm=12 --set timem=40 --set loss=CE --set lr=1e-3 $init
    "$bin/mambabench" evaluate "$out/train/ssam/esc10-$start/ssam_1x8_fp32_r0" \
        --data "$out/source/esc50-v2.0.0-esc10"
done
"$bin/mambabench" report --out "$out" # the two starts beside each other, with the paired test
"$bin/mambabench" curves "$out/train/aum/fsdd_digit/aum/seed-000" \
    "$out/train/ssamba/demo/ssamba/seed-000" --to "$out/learning.png"
