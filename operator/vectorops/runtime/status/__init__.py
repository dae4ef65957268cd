"""What the outside reads of an object: what a verdict's reason means there, and when waiting has lasted too long."""
