"""What travels between the verbs: plans, embeddings, texts and run records on disk."""
