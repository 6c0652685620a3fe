"""The catalog: everything declared in one folder, and what its agents and skills are."""
