"""The bus: subjects, endpoints, events, replies. Knows nothing of the pipeline."""
