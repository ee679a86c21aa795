"""What HAP-python 5.0.0 lacks: every override of its internals, each with its reason.

tests/homekit/test_contract.py fails if an upgrade changes what is overridden here.
"""
