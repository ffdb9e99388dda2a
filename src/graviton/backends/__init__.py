"""One package per technology; they do not know each other."""
