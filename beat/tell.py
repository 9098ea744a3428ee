"""Tell: brings to the channels what the looks have found, apart from them, so that a dead channel holds up no sweep."""

from memlane.beat.channels import TELL_S
from memlane.beat.duty import Slice
from memlane.beat.incidents import tell_due
from memlane.tasks.lane import Lane


def tell(lane: Lane, slice_: Slice) -> str:
    """Tell of the incidents that nobody was told of yet, as long as there is time to wait for the channels."""
    if not lane.settings.alert_urls:
        return "no channels here"
    return f"{tell_due(lane, lambda: slice_.left_s < TELL_S)} told"
