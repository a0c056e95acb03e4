"""Which mods there are, where their files lie, what the files say, and which version last ran.

May import: `limits`, `process`, `config`, `ipc`.
Never: imports or runs a mod's code; it reads the text of the files.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..faces import lazily

if TYPE_CHECKING:
    from .catalogue import available
    from .compiled import CompiledCode
    from .facts import facts_of
    from .file_watch import (
        HOW_TO_INSTALL,
        CodePlace,
        Seen,
        can_watch,
        changes_in,
        code_place,
        look_at_files,
        mark_unsure,
    )
    from .frameworks import modules_to_preload
    from .home import Home, folder_of, has_home, module_file, read_home, search_path, with_mod_files
    from .reading import end_threads, in_thread
    from .resolve import Offer, Plan, Present, Unmet, circle_of, in_a_circle, plan, supplier, unmet
    from .saved_files import (
        MAX_FILES,
        SKIPPED,
        Decision,
        Digests,
        SourceFiles,
        changed_files,
        decide,
        digest,
        files_read,
        made_of,
        may_be_code,
        touched_files,
    )
    from .snapshots import SnapshotStore
    from .undefined import undefined_names
else:  # hidden from type checkers, which would take any name for one of the room
    __getattr__ = lazily(
        __name__,
        catalogue="available",
        compiled="CompiledCode",
        facts="facts_of",
        file_watch="CodePlace HOW_TO_INSTALL Seen can_watch changes_in code_place look_at_files mark_unsure",
        frameworks="modules_to_preload",
        home="Home folder_of has_home module_file read_home search_path with_mod_files",
        reading="end_threads in_thread",
        resolve="Offer Plan Present Unmet circle_of in_a_circle plan supplier unmet",
        saved_files=(
            "Decision Digests MAX_FILES SKIPPED SourceFiles changed_files decide digest files_read made_of "
            "may_be_code touched_files"
        ),
        snapshots="SnapshotStore",
        undefined="undefined_names",
    )
