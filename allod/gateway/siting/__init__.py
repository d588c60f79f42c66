"""Sites, devices, models and traffic: read, judged by the gateway's own law, handed to the planner."""
