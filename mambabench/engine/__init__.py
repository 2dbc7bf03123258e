"""Where work runs: the local engine. A unit of work is a pure, idempotent function of a small spec."""
