"""Get weights and task archives: download, check, unpack, import what a user has already.

The only part of the product that touches the network, and `MAMBABENCH_OFFLINE=1` forbids it.
"""
