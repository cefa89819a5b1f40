"""The pages that the gateway serves to people."""
