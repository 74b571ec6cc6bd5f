"""Uploads by the hundred: for each file the picture that has to come out of it, or the reason why there is none.

    python tests/upload_cases.py FOLDER

writes the files, to try them by hand.
"""

from __future__ import annotations

import sys
from pathlib import Path

from accepted_uploads import ACCEPTED
from refused_uploads import REFUSED
from upload_parts import PAYLOAD, Accepted, Refused

__all__ = ["ACCEPTED", "PAYLOAD", "REFUSED", "Accepted", "Refused"]

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for number, case in enumerate([*ACCEPTED, *REFUSED]):
        (folder / f"{number:03} {case.name.replace('/', '-')}").write_bytes(case.data)
    print(f"{len(ACCEPTED)} files that are accepted and {len(REFUSED)} that are refused are in {folder}.")
