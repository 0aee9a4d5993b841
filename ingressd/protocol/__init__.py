"""To be written by its first tenant."""
