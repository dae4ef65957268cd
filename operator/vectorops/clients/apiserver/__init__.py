"""What is known of the API server itself, beside what it answers: `contact`, when it last answered."""
