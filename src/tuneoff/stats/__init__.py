"""Statistics over arrays: numbers in, numbers out. Imports nothing of tuneoff."""
