"""The privileged helper. Runs as root: small, with few imports; denies by default."""
