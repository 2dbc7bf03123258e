"""The systems that can be trained, a file each; see `mambabench.train.system`."""
