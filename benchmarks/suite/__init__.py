"""The suite: every contestant on the same work in turns, and cases for our server alone."""
