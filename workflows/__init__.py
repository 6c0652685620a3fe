"""The default catalog (content) and, under `workflows.core`, the pure language core."""
