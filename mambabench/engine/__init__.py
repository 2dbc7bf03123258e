"""Where work runs. A unit of work is a pure, idempotent function of a small spec."""
