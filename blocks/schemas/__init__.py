"""JSON Schemas that others wrote, used at a bounded cost."""
