"""The schema, one step a file, never changed once it was released."""
