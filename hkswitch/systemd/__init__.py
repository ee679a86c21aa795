"""systemd over the system bus: the only folder that imports sdbus.

org.freedesktop.systemd1(5) describes the interface. Nothing here decides what is allowed: callers name units
and programs that the config allows. The helper uses it as root; the doctor, and `hkswitch status` without a
daemon, only read states.
"""
