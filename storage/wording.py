"""How a question is worded: which ones count as the same, and under which hash one is logged and its vector is kept."""

import unicodedata
from hashlib import sha256

from memlane.storage.hashing import text_hash

_QUESTION = b"question\x00"


def normalised(text: str) -> str:
    """A question without what does not make it another one.

    In this order: NFKC (Unicode's compatibility form: full-width letters, ligatures and composed signs become one and
    the same), casefold (Python's: ß becomes ss), NFKC again, since folding may leave signs apart, and each run of white
    space, as Unicode has it, becomes one space, with none at the ends. Words, signs and accents stay as they are.
    """
    folded = unicodedata.normalize("NFKC", unicodedata.normalize("NFKC", text).casefold())
    return " ".join(folded.split())


def question_hash(text: str) -> bytes:
    """SHA-256 of a question's normalised text: 32 bytes."""
    return text_hash(normalised(text))


def cache_key(hash_: bytes) -> bytes:
    """Under which hash the cache keeps the vector of a question, made of the hash of its normalised text.

    Not under that hash itself: the vector is that of the question as somebody asked it, and a memory that happens to
    say the normalised text has another one, if the model minds capitals.
    """
    return sha256(_QUESTION + hash_).digest()
