"""Requests over HTTP on watched sockets: what the drivers that speak it share."""
