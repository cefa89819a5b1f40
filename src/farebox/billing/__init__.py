"""What a call costs and what may be spent; pure arithmetic, no I/O, no clock."""
