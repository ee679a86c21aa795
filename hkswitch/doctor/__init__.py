"""`hkswitch doctor`: looks at an installation, and says for each point that it is well, or what to do.

Looks and changes nothing. What a point needs is collected first and judged apart from that, by functions that
need no root and no machine. What cannot be seen without a right is said, and is no failure.
"""
