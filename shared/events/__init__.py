"""The normalized event: its fields, its identity, and whether a person or a machine caused it."""
