"""One conversation with a model: its turns, its journal, and what stands before a request."""
