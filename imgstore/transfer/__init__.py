"""Moving whole images: between stores, files and standard streams."""
