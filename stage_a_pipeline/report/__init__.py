"""The HTML report of delivered files: static pages that need no server and ask nobody else for anything."""
