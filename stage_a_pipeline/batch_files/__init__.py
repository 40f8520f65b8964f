"""OpenAI batch files: questions for somebody else's queue, and the answers back into the journal."""
