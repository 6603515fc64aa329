"""Running long jobs in slices."""
