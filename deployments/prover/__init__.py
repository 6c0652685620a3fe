"""The crash prover: a workflow run again and again, killed each time at another place between two writes.

`recording` notes every boundary a process reaches and kills it at one; `child` is what happens in forked
processes; `cases` chooses the boundaries and takes one run from its start through the kill to its end;
`sweep` does so for all of them; `compare` says what differs from the undisturbed run; `report` shows it.
"""
