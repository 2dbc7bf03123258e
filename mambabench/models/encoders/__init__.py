"""The audio encoders and their front-ends."""
