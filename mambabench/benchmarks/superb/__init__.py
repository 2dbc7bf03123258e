"""The tasks of SUPERB in their datasets' own layouts."""
