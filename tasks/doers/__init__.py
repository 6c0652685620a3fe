"""Who does a step: an agent, a panel, a skill, people."""
