"""NumPy and SimpleITK are all that these tests need."""
