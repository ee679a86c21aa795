"""systemd over the system bus: the only folder that knows sdbus.

The interface is described in org.freedesktop.systemd1(5). Nothing here decides anything: callers name units
and programs that the config allowed. The daemon uses `Systemd.watch`, which needs no privilege; the helper
uses `Systemd.run` and `Systemd.execute`, as root.
"""

from hkswitch.systemd.units import Systemd

__all__ = ["Systemd"]
