"""Prepares the connection from a bridge to another host, on both sides, and tries it.

Root's command line runs it; neither the daemon nor the helper does.
"""
