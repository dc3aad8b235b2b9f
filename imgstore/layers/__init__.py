"""Stores around a store: each adds one ability. `imgstore.stack` alone knows their order."""
