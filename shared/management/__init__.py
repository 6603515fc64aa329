"""The providers' management APIs: what they could not deliver, where they post to, whom they do not write to."""
