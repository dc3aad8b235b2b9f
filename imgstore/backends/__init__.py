"""The drivers: one store each."""
