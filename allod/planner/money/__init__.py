"""What AI costs: owned, rented, or by the token; with intervals, break-even, carbon and the cash of years."""
