"""Backups of an installation: one file with the config, the bridge's state and its siblings.

This folder knows files, but not what is in them, and neither daemons nor networks.
"""
