"""Containers of Docker and Podman, over the API that both have on a unix socket. Imported by root.

Runs no program, uses no library, and calls nothing but list, inspect, events, start and stop.
"""
