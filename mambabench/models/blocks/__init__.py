"""The parts that the encoders are made of."""
