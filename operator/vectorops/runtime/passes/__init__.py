"""What every pass of every object obeys: when it comes, beside whom it runs, what it can read of its own past."""
