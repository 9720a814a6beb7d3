"""The suite: every contestant on the same work, in turns, and what only our own server can be asked."""
