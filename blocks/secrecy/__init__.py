"""Secret values: known, found in every spelling, and kept out of what is written."""
