"""The embedded model, as a supervised child process."""
