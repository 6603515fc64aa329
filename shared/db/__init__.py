"""Tables and every SQL statement, behind functions that take a connection and never commit."""
