"""The HomeKit side: only these modules and the accessories in daemon/ import HAP-python.

driver.py, server.py, connection.py, handler.py, pairings.py, pair_setup.py, database.py and presence.py
override internals of HAP-python 5.2.0, each with the reason at the override; responder.py and advertiser.py
do the same for zeroconf. tests/hap/test_contract.py fails if an upgrade changes a name that they override or
use.
"""
