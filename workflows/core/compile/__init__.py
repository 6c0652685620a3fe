"""From a workflow as written to its plan."""
