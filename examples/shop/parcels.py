"""Stands for a parcel service: it accepts each key once, as a good service does."""

from __future__ import annotations

import json
import os
import time
from hashlib import blake2b
from pathlib import Path
from typing import Any

FOLDER = Path(os.environ.get("SHOP_PARCELS", "parcels"))
SLOW = float(os.environ.get("SHOP_SLOW", "0"))  # seconds that a parcel takes


def hand_over(key: str, parcel: dict[str, Any]) -> str:
    """Accept a parcel; the same key again is the same parcel. Returns its number."""
    number = blake2b(key.encode(), digest_size=6).hexdigest()
    FOLDER.mkdir(parents=True, exist_ok=True)
    time.sleep(SLOW)
    try:
        with (FOLDER / f"{number}.json").open("x") as file:
            json.dump(parcel, file)
    except FileExistsError:
        pass
    return number
