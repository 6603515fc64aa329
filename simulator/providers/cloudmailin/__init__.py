"""CloudMailin, played from its documentation."""
