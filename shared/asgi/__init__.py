"""What all doors need to stand on an event loop: ASGI, and Flask behind it."""
