"""From a free text to the workflow that takes it."""
