"""What is asked of the web."""
