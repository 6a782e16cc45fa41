"""How long things take and how much memory: times depend on the machine, so they are only told, never asserted."""
