"""What a user is promised, and the tests that hold each promise: none may vanish unseen."""

from __future__ import annotations

import ast
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
CLI, REPORT = "cli/test_", "report/test_report_"
# promise -> "file::test" below tests/, without .py
PROMISES: dict[str, tuple[str, ...]] = {
    "run shows one stage after the other, 80 columns wide, and ends with the page": (
        CLI + "cli_progress::test_run_on_a_terminal_shows_one_stage_after_the_other",
    ),
    "the time left is right within a factor of two": (
        CLI + "cli_progress::test_the_time_left_is_reckoned_from_the_first_trained_unit",
    ),
    "Ctrl-C and SIGTERM end a run in one line, with 130 and 143": (
        CLI + "cli_progress::test_an_interrupted_probe_says_one_line",
        CLI + "cli_progress::test_an_interrupt_that_gets_lost_ends_the_run_all_the_same",
        "probe/test_probe_verb::test_results_do_not_depend_on_jobs_or_interruption",
        CLI + "cli_progress::test_a_live_line_is_one_line",
    ),
    "folders that cannot be written to: one line, and the report's tables": (
        CLI + "read_only::test_every_verb_says_in_one_line_what_it_cannot_write",
        CLI + "read_only::test_report_prints_its_table_all_the_same",
        REPORT + "formats::test_file_that_cannot_be_written_is_named_below_the_tables",
    ),
    "other encodings get every format": (
        CLI + "terminals::test_other_encodings_get_every_format",
        REPORT + "matrix::test_ascii_terminal_gets_every_format",
    ),
    "LaTeX compiles in one and two columns without an overfull box": (
        REPORT + "latex::test_compiles_without_overfull_boxes",
        REPORT + "latex::test_pure_ascii_with_caption_and_label",
    ),
    "LaTeX has every task as a column, at most twelve a table, and marks that hold": (
        REPORT + "promises::test_latex_has_every_task_as_a_column_and_marks_what_is_best",
        REPORT + "matrix::test_cells_are_means_half_widths_and_marks",
    ),
    "Markdown is a matrix of encoders and tasks": (
        REPORT + "matrix::test_markdown_matrix_is_encoders_by_tasks",
        REPORT + "formats::test_markdown_tables_are_rectangular",
    ),
    "the page stays small, asks nothing of the network, and axe finds nothing": (
        REPORT + "formats::test_page_drops_clips_when_asked_and_above_its_budget",
        REPORT + "browser::test_sorting_by_a_column_and_by_name",
        REPORT + "browser::test_nothing_is_asked_of_the_network",
        REPORT + "browser::test_axe_finds_nothing",
    ),
    "the page is legible at 400 pixels, light and dark": (
        REPORT + "browser::test_both_schemes_and_widths",
    ),
    "the page says what matters without script": (
        REPORT + "formats::test_page_without_script_has_matrix_notes_and_provenance",
    ),
    "a number opens down to its clips, and its command makes it again": (
        REPORT + "browser::test_a_number_opens_down_to_its_clips",
        REPORT + "promises::test_the_pages_command_makes_the_number_again",
    ),
    "clips give the stored scores; those of restricted tasks have no names": (
        REPORT + "clips_gate::test_right_clips_give_the_stored_scores",
        REPORT + "clips_gate::test_wrong_keeps_the_others_out_and_restricted_clips_have_no_names",
    ),
    "what was edited or damaged is refused by name": (
        REPORT + "defects::test_a_score_written_by_hand_is_refused",
        REPORT + "defects::test_changed_predictions_are_refused_by_their_name",
        REPORT + "defects::test_the_command_names_what_it_refuses",
        "extract/test_verify::test_a_healthy_folder_has_no_defect_and_a_flipped_bit_anywhere_is_found",
    ),
    "clips that were left out are said at the number": (
        REPORT + "promises::test_clips_that_were_left_out_are_said_at_the_number",
    ),
    "no interval below five seeds, none beyond the metric's range, none of no width": (
        REPORT + "intervals::test_limits_stay_in_the_metrics_range",
        REPORT + "intervals::test_no_error_at_all_leaves_room_for_errors",
        REPORT + "reading::test_no_seed_interval_below_five_seeds_or_beyond_the_scale",
    ),
    "an encoder that fails stops no other, and says where": (
        "extract/test_several_encoders::test_the_others_go_on",
        "hear_api/test_fence::test_a_fault_says_where_it_is",
    ),
    "an edited encoder is never mixed with what it was": (
        "extract/test_reuse::test_replace_embeds_an_edited_provider_anew_and_keeps_the_rest",
    ),
    "limited results are marked and never mixed": (
        CLI + "limit::test_limited_and_whole_are_never_mixed",
    ),
    "a dry run measures what a run does, and stores nothing": (
        CLI + "dry_run::test_a_dry_run_stores_nothing_and_counts_right",
        CLI + "dry_run::test_trials_are_timed_as_a_run_computes_them",
    ),
    "shares are one run, on any engine": (
        CLI + "settings::test_shares_of_probing_are_one_run",
        "extract/test_extract_robust::test_any_number_of_jobs_and_shares_gives_equal_bytes",
        "engine/test_clusters::test_run_gives_the_bytes_of_local_on_ray_and_slurm",
    ),
    "names and choices hold in every format": (
        REPORT + "matrix::test_names_file_renames_and_groups",
        REPORT + "choice::test_every_format_for_people_says_what_was_chosen",
        REPORT + "choice::test_what_is_left_out_counts_nowhere",
        REPORT + "choice::test_choices_of_nothing_are_answered",
    ),
    "several encoders of embed are all embedded": (
        "extract/test_embed::test_folders_and_several_encoders",
    ),
    "Python takes strings and objects in memory": (
        CLI + "notebook_results::test_a_string_is_one_name_in_every_verb",
        CLI + "settings::test_a_string_alone_is_one_name",
        "test_in_memory::test_three_kinds_of_objects_are_one_encoder",
    ),
    "every verb takes --json, errors too": (
        CLI + "json::test_every_command_takes_json",
        CLI + "json::test_bad_input_is_an_object",
        CLI + "json::test_wrong_usage_is_an_object",
    ),
    "every block of the documentation runs": (
        "test_docs_blocks::test_blocks_run_as_printed",
        "test_docs_blocks::test_reasons_are_reasons",
    ),
    "nothing is wider than a terminal, and no word or number is broken": (
        CLI + "terminals::test_nothing_is_wider_than_a_terminal_nor_broken",
        CLI + "terminals::test_messages_break_between_words",
        "affect/test_affect_pipeline::test_evaluate_prints_honest_lines",
    ),
    "a newcomer's first hour is recorded": (
        "test_promises::test_the_first_hour_is_recorded_and_names_no_machine",
    ),
    "a first report writes few files, and a second one reads nothing again": (
        REPORT + "promises::test_a_first_report_writes_few_files",
        REPORT + "remembered::test_recalled_report_reads_no_predictions_and_draws_nothing",
    ),
    "a baseline and the number of its tests are named": (
        REPORT + "promises::test_the_baseline_and_its_tests_are_named",
    ),
}


@cache
def _tests(file: Path) -> frozenset[str]:
    tree = ast.parse(file.read_text(encoding="utf-8"))
    return frozenset(node.name for node in tree.body if isinstance(node, ast.FunctionDef))


@pytest.mark.parametrize("promise", PROMISES)
def test_every_promise_is_held_by_tests_that_are_there(promise: str) -> None:
    for named in PROMISES[promise]:
        file, _, test = named.partition("::")
        path = ROOT / "tests" / f"{file}.py"
        assert path.is_file(), named
        assert test in _tests(path), named


def test_the_first_hour_is_recorded_and_names_no_machine() -> None:
    folder = ROOT / "results" / "first_hour"
    names = ("1-clone-to-page", "2-own-encoder", "3-own-task", "4-paper")
    told = (folder / "README.md").read_text(encoding="utf-8")
    assert "Every command ended with 0." in told
    for name in names:
        assert f"{name}.txt" in told
        text = (folder / f"{name}.txt").read_text(encoding="utf-8")
        assert "\x1b" not in text
        for word in ("/tmp/", "/root/", "/home/", "Traceback"):
            assert word not in text, name
        own = [line for line in text.splitlines() if not line.startswith(("$ ", "   ["))]
        assert max(map(len, own)) <= 80
