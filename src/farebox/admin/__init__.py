"""What an operator may do, one file per noun, as plain functions."""
