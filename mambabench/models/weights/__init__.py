"""Checkpoints: found, recognised, read, converted, identified."""
