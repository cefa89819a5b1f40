"""What clients speak, sans-I/O: bytes in, values and bytes out."""
