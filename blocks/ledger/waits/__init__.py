"""Durable questions and their answers."""
