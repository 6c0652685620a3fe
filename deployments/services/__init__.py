"""Runs started, continued, answered, cancelled, woken and shown: for the command line and any other front."""
