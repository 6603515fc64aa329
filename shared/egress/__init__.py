"""HTTP calls to URLs that users enter: only to public addresses, each with a deadline."""
