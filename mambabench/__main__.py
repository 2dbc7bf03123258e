"""Run the command line as ``python -m mambabench``."""

from mambabench.cli import main

if __name__ == "__main__":
    main()
