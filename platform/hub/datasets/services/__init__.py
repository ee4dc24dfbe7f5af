"""What makes, changes, validates and deletes data sets, and takes in their files."""
