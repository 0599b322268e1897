"""The configuration and the commands."""
