"""What the pages of docs/ show is what happens."""
