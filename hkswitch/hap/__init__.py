"""The HomeKit side: these modules and daemon/bridge.py are the only ones that know HAP-python.

What HAP-python 5.2.0 lacks is in driver.py, connection.py, handler.py, pairings.py, pair_setup.py, frames.py,
iid_manager.py and advertiser.py: every override of its internals, each with its reason. What zeroconf lacks
is in responder.py and advertiser.py. tests/hap/test_contract.py fails if an upgrade changes what is
overridden of HAP-python, and if an override is not in its list.
"""
