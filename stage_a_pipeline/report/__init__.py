"""The HTML report of delivered files."""
