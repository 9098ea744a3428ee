"""Texts that nobody has seen before: as long as a turn of a conversation, and each with a number of its own."""

import random
from collections.abc import Iterator
from uuid import uuid4

_WORDS = [
    "adoption",
    "agency",
    "aquarium",
    "autumn",
    "bakery",
    "balcony",
    "beach",
    "bicycle",
    "birthday",
    "bridge",
    "camera",
    "campfire",
    "candle",
    "castle",
    "cello",
    "charity",
    "chess",
    "choir",
    "climbing",
    "coffee",
    "concert",
    "cousin",
    "dancing",
    "dentist",
    "doctor",
    "engine",
    "evening",
    "exam",
    "family",
    "festival",
    "forest",
    "friend",
    "garden",
    "gallery",
    "guitar",
    "hiking",
    "holiday",
    "hospital",
    "island",
    "jacket",
    "journey",
    "kitchen",
    "kitten",
    "lake",
    "lecture",
    "letter",
    "library",
    "lighthouse",
    "marathon",
    "market",
    "meadow",
    "meeting",
    "melody",
    "mountain",
    "museum",
    "neighbour",
    "novel",
    "office",
    "orchard",
    "painting",
    "park",
    "pasta",
    "piano",
    "picnic",
    "pottery",
    "project",
    "puppy",
    "railway",
    "recipe",
    "river",
    "sailing",
    "salary",
    "school",
    "season",
    "sister",
    "snow",
    "song",
    "station",
    "storm",
    "studio",
    "summer",
    "sunrise",
    "teacher",
    "theatre",
    "ticket",
    "train",
    "travel",
    "trumpet",
    "village",
    "violin",
    "volunteer",
    "weather",
    "wedding",
    "weekend",
    "window",
    "winter",
    "work",
    "workshop",
    "yoga",
]

_PEOPLE = ("Ada", "Ben", "Clara", "David", "Emma", "Felix", "Grace", "Hugo", "Ines", "Jonas")


def fresh_texts(seed: int) -> Iterator[str]:
    """Texts without end; two runs never share one."""
    chance = random.Random(seed)
    run = uuid4().hex[:8]
    number = 0
    while True:
        number += 1
        words = " ".join(chance.choices(_WORDS, k=chance.randint(10, 24)))
        yield f"{chance.choice(_PEOPLE)} spoke of {words} (note {number} of {run})"


def queries(seed: int) -> Iterator[str]:
    """Questions without end, each asked once."""
    chance = random.Random(seed)
    number = 0
    while True:
        number += 1
        words = " ".join(chance.choices(_WORDS, k=4))
        yield f"What did {chance.choice(_PEOPLE)} say of {words}? ({number})"
