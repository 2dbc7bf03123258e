"""The page on training: its walk runs as it is printed, and it names every setting."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from dataclasses import fields
from pathlib import Path

from conftest import write_lists

from mambabench.cli.train import command
from mambabench.train.encoder_settings import AumSettings, SsambaSettings, SsamSettings

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "training.md").read_text(encoding="utf-8")


def test_the_five_minutes(tmp_path: Path) -> None:
    block = re.findall(r"```sh\n(.*?)```", PAGE, re.DOTALL)[0]
    write_lists(tmp_path / "audio")
    write_lists(tmp_path / "lists")
    own = f"{sys.executable} -m mambabench"
    script = "set -eu\n" + re.sub(r"^mambabench ", f"{own} ", block, flags=re.MULTILINE)
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        ["sh", "-c", script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stderr
    assert "accuracy" in done.stdout
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")


def test_every_setting_is_on_the_page() -> None:
    for kind in (SsamSettings, SsambaSettings, AumSettings):
        for field in fields(kind):
            assert re.search(rf"\b{field.name}=", PAGE), (kind.__name__, field.name)


def test_no_setting_is_on_the_page_that_is_not_there() -> None:
    known = {f.name for kind in (SsamSettings, SsambaSettings, AumSettings) for f in fields(kind)}
    known |= {"train", "valid", "test", "labels", "audio"}  # keys of --data
    options = {option for parameter in command.params for option in parameter.opts}
    tables = PAGE[PAGE.index("## Their option") :]
    for row in re.findall(r"^\| .* \| (.*) \|$", tables, re.MULTILINE):
        for name in re.findall(r"`(?:--data )?([a-z_]+)=`", row):
            assert name in known, row
        for option in re.findall(r"`(--[a-z-]+)", row):
            assert option in options, row


# what the authors' programs and configurations can be told, by their names
THEIRS = {
    "SSAM and SSAST": (
        "--config --workdir --num_workers --no_wandb --fake_data --bias_decay --use_rs --device "
        "--seed --print_freq --resume --start_epoch --precision --min_lr --world_size "
        "--dist_on_itp --dist_url arch type num_classes mask_ratio img_size patch_size "
        "frequency_first rms_norm fused_add_norm residual_in_fp32 norm_epsilon norm_layer "
        "mlp_ratio in_chans masking_mode use_cls_token ssm_kwargs d_state d_conv expand num_heads "
        "embed_dim depth patch_embed_args optimizer learning_rate weight_decay schedule "
        "warmup_epochs momentum norm_pix_loss grad_accum_steps clip_grad_value log_every_steps "
        "num_train_steps steps_per_eval train_dirs train_samples val_dir val_samples "
        "clip_duration num_frames dataset_name batch_size shuffle_buffer_multiplier "
        "half_precision num_epochs wandb project"
    ),
    "SSAMBA": (
        "--data-train --data-val --data-eval --label-csv --n_class --dataset --dataset_mean "
        "--dataset_std --target_length --num_mel_bins --exp-dir --lr --learning-rate --warmup "
        "--optim -b --batch-size -w --num-workers --n-epochs --lr_patience --adaptschedule "
        "--n-print-steps --save_model --freqm --timem --mixup --bal --fstride --tstride --fshape "
        "--tshape --model_size --task --mask_patch --cluster_factor --epoch_iter "
        "--pretrained_mdl_path --head_lr --noise --metrics --lrscheduler_start "
        "--lrscheduler_step --lrscheduler_decay --wa --wa_start --wa_end --loss --use_wandb "
        "--patch_size --embed_dim --depth --rms_norm --residual_in_fp32 --fused_add_norm "
        "--if_rope --if_rope_residual --bimamba_type --drop_path_rate --stride --channels "
        "--num_classes --drop_rate --norm_epsilon --if_bidirectional --final_pool_type "
        "--if_abs_pos_embed --if_bimamba --if_cls_token --if_devide_out --use_double_cls_token "
        "--use_middle_cls_token --metadata_csv --audio_base_path --val_metadata_csv "
        "--val_audio_base_path -m -u -d -c -s -o -f --expdir"
    ),
    "AuM": (
        "--exp-dir --exp-name -w --num-workers --n-print-steps --run_type --data-train --data-val "
        "--data-eval --label-csv --n_class --dataset --freqm --timem --mixup --dataset_mean "
        "--dataset_std --audio_length --noise --melbins --fshift --model --model_type "
        "--fpatch_size --tpatch_size --fstride --tstride --imagenet_pretrain "
        "--imagenet_pretrain_path --imagenet_pretrain_modelkey --aum_pretrain "
        "--aum_pretrain_path --aum_pretrain_fstride --aum_pretrain_tstride --pt_seq_lenf "
        "--pt_seq_lent --bilinear_rope --if_continue_inf --if_nan2num "
        "--if_random_cls_token_position --if_random_token_rank --aum_drop_path "
        "--imagenet_load_middle_cls_token --imagenet_load_double_cls_token --if_cls_token "
        "--use_middle_cls_token --use_double_cls_token --use_end_cls_token "
        "--transpose_token_sequence --aum_type --ast_pretrain --ast_pretrain_path --ast_fstride "
        "--ast_tstride --ast_label_dim --ast_input_fdim --ast_input_tdim --ast_model_name "
        "--load_backbone_only --lr --learning-rate --optim -b --batch-size --n-epochs "
        "--save_model --bal --metrics --loss --warmup --lrscheduler_start --lrscheduler_step "
        "--lrscheduler_decay --wa --wa_start --wa_end --bs_scale_factor --weight_decay "
        "--optim_path --flexible_training --flexible_p_start --flexible_p_end --flexible_p_step "
        "CLIP_SECS HOP_LENGTH NUM_FRAMES NUM_FREQUENCIES SAMPLING_RATE WINDOW_LENGTH NUM_WORKERS "
        "PIN_MEMORY ANNOTATIONS_DIR AUDIO_DATA_FILE TEST_LIST TRAIN_LIST VAL_LIST ARCH "
        "MULTI_PATHWAY_ARCH SINGLE_PATHWAY_ARCH NUM_GPUS SHARD_ID T_MASK F_MASK T_WARP ALPHA "
        "BETA_INV FUSION_CONV_CHANNEL_RATIO FUSION_KERNEL_SZ BATCH_SIZE DATASET "
        "NUM_ENSEMBLE_VIEWS"
    ),
}


def _their_names(system: str) -> set[str]:
    """Return what stands in the first column of a system's table."""
    section = re.split(r"^### ", PAGE, flags=re.MULTILINE)
    (table,) = (part for part in section if part.startswith(system))
    rows = re.findall(r"^\| (.*) \| .* \|$", table, re.MULTILINE)
    return {name for row in rows for name in re.findall(r"`([^`]+)`", row)}


def test_every_option_of_the_originals_has_a_row() -> None:
    known = {system: _their_names(system) for system in THEIRS}
    known["AuM"] |= known["SSAMBA"]  # "everything of the same name"
    for system, names in THEIRS.items():
        assert not set(names.split()) - known[system], system
