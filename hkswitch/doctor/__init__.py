"""`hkswitch doctor`: checks an installation, and suggests fixes.

It changes nothing. It collects the facts first; the functions that judge them need neither root nor a real
machine. A check without the necessary permissions is skipped, which does not count as a failure.
"""
