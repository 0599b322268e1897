"""What is shipped and cannot be run here: its form, and what it must not say."""
