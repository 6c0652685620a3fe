"""Who does a step: one file a kind, with what planning and drawing need of it."""
