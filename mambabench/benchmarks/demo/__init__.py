"""The embedded demo benchmark, generated with numpy alone."""
