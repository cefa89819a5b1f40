"""What upstreams are: one small file each, found by their file."""
