"""What a command makes sure of before it imports anything."""
