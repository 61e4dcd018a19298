"""Measurements side by side with other libraries, and the networks that they share with the tests."""
