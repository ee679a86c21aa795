"""Changes the config file as a person would: it touches the lines of one group, and no others."""
