"""The lab: real Debian kernels, booted under software emulation on this machine's files."""
