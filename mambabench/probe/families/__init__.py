"""SUPERB's heads, one file per family: chosen by the task's kind, never by its name."""
