"""HEAR-API providers of the published encoders; adapters that make foreign models look alike."""
