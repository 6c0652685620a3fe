"""The plan: what a workflow becomes before anything runs, and nothing after it reads YAML."""
