"""What lasts longer than an answer may: waiting for changes, and streams of them, on the event loop of the process."""
