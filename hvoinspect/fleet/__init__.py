"""Many scans at once: what a fleet saves, where HVO is off, and who is unlike the others."""
