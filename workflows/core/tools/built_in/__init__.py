"""The tools that phaseline itself offers agents: one file each, and the table of all."""
