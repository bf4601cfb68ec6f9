"""Takes messages off the inbox, runs the pipeline, acknowledges what has a receipt."""
