"""Counting tokens before a call is made: what is counted, with which vocabulary, and where."""
