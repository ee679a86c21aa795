"""The privileged helper. Runs as root: small, imports little, refuses by default."""
