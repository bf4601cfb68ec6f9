"""What was left undone while delegates or stores were away, done each minute."""
