"""The program `hkswitch`: one module per command. The daemon makes all decisions."""
