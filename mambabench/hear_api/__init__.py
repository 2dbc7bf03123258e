"""HEAR-API providers of every published encoder, and the adapters that make foreign models look alike."""
