"""The contract: what units do, what is done to them, and what hkswitch must say of it.

Both systemds that Debian has must agree with it, and the simulation of both.
"""

from typing import Final

from tests.contract.actions import AGAIN, BONDS, COMMANDS, FORGOTTEN, REPLACED
from tests.contract.ends import ENDS_BADLY
from tests.contract.starts import CRASHES, REFUSALS, STARTS

CASES: Final = (*STARTS, *REFUSALS, *CRASHES, *REPLACED, *AGAIN, *BONDS, *FORGOTTEN, *COMMANDS, *ENDS_BADLY)
