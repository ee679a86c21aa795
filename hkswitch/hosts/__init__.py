"""Where units live: one Protocol, a room for each kind of host. Nothing here runs as root."""
