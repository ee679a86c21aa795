"""Where to serve: addresses and listening sockets, read from the kernel's tables. Knows no HomeKit."""
