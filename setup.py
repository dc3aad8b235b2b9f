"""Hands over to setup.cfg, for the tools that still call this file."""

from setuptools import setup

setup()
