"""Tasks: what is measured. One file a task, HEAR's nineteen as one table; splits and metrics."""
