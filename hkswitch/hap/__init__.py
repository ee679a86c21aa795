"""The HomeKit side: these modules and daemon/bridge.py are the only ones that know HAP-python.

What HAP-python 5.2.0 lacks is in driver.py, connection.py, handler.py, pairings.py, pair_setup.py, frames.py
and advertiser.py: every override of its internals, each with its reason. tests/hap/test_contract.py fails if
an upgrade changes what is overridden there, and if an override is not in its list.
"""
