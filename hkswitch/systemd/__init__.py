"""systemd over the system bus: the only folder that knows sdbus.

The interface is described in org.freedesktop.systemd1(5). Nothing here decides anything: callers name units
and programs that the config allowed. The helper uses it as root; `hkswitch status` without a daemon and the
doctor only read states.
"""
