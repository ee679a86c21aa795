"""The names of systemd's units: which ones exist, and which one a misspelt name stands for."""
