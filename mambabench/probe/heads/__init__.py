"""What is trained: the heads, their numbers, kernels and random streams."""
