"""The addresses to serve on, and listening sockets, read from the kernel's tables. Knows no HomeKit."""
