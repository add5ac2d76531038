"""What a search found: importances, advice, gain, confirmation, the next manifest. Pure functions of results."""
