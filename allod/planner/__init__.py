"""What to own and what it costs: memory, speed and money of models on machines, each with its interval."""
