"""The ledger process's inside, and a worker's way to it. What money does there is billing/'s."""
