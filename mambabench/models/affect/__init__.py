"""DepMamba, MMML and what they read."""
