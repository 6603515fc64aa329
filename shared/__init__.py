"""The code that processes have in common: one package for each feature, with its tables and statements."""
