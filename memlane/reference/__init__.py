"""The reference pages of the docs, each made from the code that it describes."""
