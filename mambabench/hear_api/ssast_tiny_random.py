"""HEAR provider of the encoder ssast_tiny_random."""

from mambabench.hear_api.factory import provider

load_model, get_scene_embeddings, get_timestamp_embeddings = provider(__name__)
