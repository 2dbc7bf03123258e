"""Depression tasks, in their datasets' own layouts. Nothing here is a diagnostic."""
