"""Check everything below an output folder, and move aside what is damaged: the verb ``verify``."""
