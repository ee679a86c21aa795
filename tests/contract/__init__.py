"""What a simulation and reality must agree on, written once and run against both."""
