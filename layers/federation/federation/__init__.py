"""What the stages of the pipeline share; it imports no function and no store."""
