"""Statistics on arrays: NumPy arrays in, NumPy arrays and floats out. Imports no other package of tuneoff."""
