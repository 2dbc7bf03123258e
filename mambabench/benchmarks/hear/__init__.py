"""The nineteen tasks of HEAR 2021."""
