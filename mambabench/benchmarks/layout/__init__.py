"""HEAR's task directories: one reader, one writer, one check."""
