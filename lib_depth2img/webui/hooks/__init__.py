"""What is hung into a generation of the host, and taken out again."""
