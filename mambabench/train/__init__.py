"""Training of encoders and of the depression and sentiment systems, end to end."""
