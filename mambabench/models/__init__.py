"""Front-ends, Mamba mixers and encoders; checkpoint reading; the registry of encoders."""
