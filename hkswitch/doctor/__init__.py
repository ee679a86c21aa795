"""`hkswitch doctor`: checks an installation, and suggests fixes.

It changes nothing. Facts are collected first, and judged by functions that need neither root nor a real
machine. A check that lacks a right is skipped, which is no failure.
"""
