"""What is known of the API server itself: when it last answered (`contact`), which schemas it serves (`schemas`)."""
