"""CloudMailin: webhook adapter."""
