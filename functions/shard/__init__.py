"""Which continent stores a transaction, and in which shard."""
