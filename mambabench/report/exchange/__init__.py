"""Others' formats and numbers: published rows, hear-eval-kit, exports."""
