"""Calling where others tell us to: only to addresses that are anybody's to reach, and never for longer than said."""
