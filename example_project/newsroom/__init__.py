"""A small newsroom: its workflows, and the rows that they write."""
