"""The HomeKit side: these modules and daemon/bridge.py are the only ones that know HAP-python.

What HAP-python 5.0.0 lacks is in driver.py, connection.py, handler.py, pair_setup.py and advertiser.py: every
override of its internals, each with its reason. tests/hap/test_contract.py fails if an upgrade changes what
is overridden there. What zeroconf lacks is in responder.py and advertiser.py.
"""
