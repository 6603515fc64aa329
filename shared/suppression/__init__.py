"""The suppression list: which event suppresses whom, for which mail, for how long."""
