"""What `make dist` and `make rpm` build, and whether it installs: takes longer than all other tests do."""
