"""From records to intervals, tests and ranks."""
