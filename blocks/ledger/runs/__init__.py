"""What a run writes down: its start and end, steps, journal, effects, events."""
