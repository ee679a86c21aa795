"""The HomeKit side: the only modules that know HAP-python."""
