"""Health: looks at the whole, scores each component, says what is wrong and what to do next."""
