"""Where the key of a log comes from, and how one key hands over to the next."""
