"""From a table of files and labels to a task directory: ``mambabench tasks make``."""
