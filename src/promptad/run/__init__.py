"""A folder of photos through a detector."""
