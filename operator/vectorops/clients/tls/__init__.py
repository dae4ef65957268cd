"""TLS towards neighbours: whose certificates are believed, and what a refused one is called."""
