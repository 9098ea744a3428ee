"""Examples: a conversation of our own with its questions, and programs that use the SDK."""
