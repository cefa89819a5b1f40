"""What is kept: the schema, the transactions and the reports over it."""
