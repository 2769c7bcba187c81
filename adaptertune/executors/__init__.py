"""Who does the units of a sweep: this process, several of them, or a Ray cluster."""
