"""What was measured once, kept on disk for the next run of the same set-up."""

import hashlib
import json
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any, TypeVar

from metavision.data.pack import cache_folder
from metavision.drafts import draft_of
from metavision.errors import InputError

T = TypeVar("T")


def remembered(
    key: Mapping[str, Any], measure: Callable[[], dict[str, Any]], understood: Callable[[dict[str, Any]], T]
) -> T:
    """What `measure` gave when it was last called under this key, else what it gives.

    Args:
        key: JSON, all that the answer depends on.
        measure: its answer is a JSON object.
        understood: the answer as a value; raises KeyError, TypeError or ValueError where it is no answer.
    """
    text = json.dumps(key, sort_keys=True, default=str)
    path = cache_folder() / "engine" / f"{hashlib.blake2b(text.encode(), digest_size=8).hexdigest()}.json"
    with suppress(OSError, ValueError, KeyError, TypeError):  # none, or damaged: measured again
        return understood(json.loads(path.read_text(encoding="utf-8")))
    answer = measure()
    # A cache that can't be written costs the next run a measurement.
    with suppress(InputError), draft_of(path) as draft:
        draft.write_text(json.dumps({"setup": key, **answer}, indent=1, default=str), encoding="utf-8")
    return understood(answer)
