"""Python functions of skills, each call in a process of its own."""
