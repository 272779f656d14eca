"""A run's result in the forms that other programs read."""
