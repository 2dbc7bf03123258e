"""Multimodal sentiment tasks, in their datasets' own layouts."""
