"""A fallback tier and home clusters in memory, for copies to go from the one to the other."""
