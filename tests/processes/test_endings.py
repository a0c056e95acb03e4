"""How a worker ends: whatever the launcher, nothing that a mod had begun to write is lost, and its exit handlers run."""

from __future__ import annotations

import gzip
import sys
from collections.abc import Callable

import pytest

from modvisor.supervisor import AgentNetwork
from tests.conftest import worker_pids

pytestmark = [
    pytest.mark.usefixtures("started_guardians"),
    pytest.mark.anyio,
    pytest.mark.parametrize(
        "launch",
        [
            pytest.param("exec", marks=pytest.mark.slow if sys.platform == "linux" else ()),
            pytest.param("fork", marks=pytest.mark.skipif(sys.platform != "linux", reason="nothing is forked")),
        ],
    ),
]

LEAVES = """
    import atexit, gzip, tempfile, threading, weakref
    from modvisor.mods import BaseMod

    class Dies:
        def __init__(self, file):
            self._file = file

        def __del__(self):
            self._file.write_text("died")

    class Leaves(BaseMod):
        def initialize(self):
            global open_text, packed, packed_text, temporary, dies
            folder = self.context.storage_path
            open_text = open(folder / "text", "w")
            open_text.write("not flushed")
            self.own_text = open(folder / "own", "w")
            self.own_text.write("held by the mod alone")
            self.me = self
            packed = gzip.open(folder / "packed.gz", "wb")
            packed.write(b"not closed")
            packed_text = gzip.open(folder / "text.gz", "wt")
            packed_text.write("neither flushed nor closed")
            temporary = tempfile.NamedTemporaryFile(dir=folder, prefix="temporary")
            dies = Dies(folder / "died")
            atexit.register(lambda: (folder / "exit").write_text("in order"))
            weakref.finalize(self, (folder / "finalized").write_text, "in order")
            print("last words", end="")
{more}
"""

DAEMON = "            threading.Thread(target=threading.Event().wait, daemon=True).start()\n"

SLOW_THREAD = """
            def finish():
                threading.main_thread().join()
                (folder / "thread").write_text("finished")
            threading.Thread(target=finish).start()
"""

RAISES = """
            atexit.register(lambda: 1 / 0)
"""


RAISES_IN_SHUTDOWN = """
        async def shutdown(self):
            raise ValueError("not now")
"""


@pytest.mark.parametrize("more", ["", DAEMON], ids=["alone", "with a daemon thread"])
async def test_what_a_mod_left_open_is_written_and_ends(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str, more: str
) -> None:
    loaded = await network.load_mod(write_mod("leaves", LEAVES.format(more=more)), launch=launch)
    assert loaded.success, loaded
    assert (await network.unload_mod("leaves")).success
    assert worker_pids() == set()
    folder = network.state_dir.storage_of("leaves")
    assert (folder / "text").read_text() == "not flushed"
    assert (folder / "own").read_text() == "held by the mod alone"
    assert gzip.decompress((folder / "packed.gz").read_bytes()) == b"not closed"
    assert gzip.decompress((folder / "text.gz").read_bytes()) == b"neither flushed nor closed"
    assert list(folder.glob("temporary*")) == []
    assert [(folder / name).read_text() for name in ("died", "exit", "finalized")] == ["died", "in order", "in order"]
    assert "last words" in network.mod_log("leaves")[-1]


async def test_a_mod_whose_shutdown_raises_ends_like_any_other(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str
) -> None:
    path = write_mod("leaves", LEAVES.format(more=RAISES_IN_SHUTDOWN))
    assert (await network.load_mod(path, launch=launch, limits={"shutdown_timeout": 20})).success
    assert (await network.unload_mod("leaves")).success
    assert any("ValueError: not now" in line for line in network.mod_log("leaves"))
    folder = network.state_dir.storage_of("leaves")
    assert (folder / "text").read_text() == "not flushed"
    assert [(folder / name).read_text() for name in ("died", "exit", "finalized")] == ["died", "in order", "in order"]


async def test_a_thread_that_is_to_be_waited_for_is(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str
) -> None:
    path = write_mod("leaves", LEAVES.format(more=SLOW_THREAD))
    assert (await network.load_mod(path, launch=launch)).success
    assert (await network.unload_mod("leaves")).success
    assert (network.state_dir.storage_of("leaves") / "thread").read_text() == "finished"


async def test_an_exit_handler_that_fails_is_told_and_keeps_nothing_else_from_being_done(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str
) -> None:
    path = write_mod("leaves", LEAVES.format(more=RAISES))
    assert (await network.load_mod(path, launch=launch)).success
    assert (await network.unload_mod("leaves")).success
    folder = network.state_dir.storage_of("leaves")
    assert (folder / "exit").read_text() == "in order"
    assert (folder / "text").read_text() == "not flushed"
    assert any("ZeroDivisionError" in line for line in network.mod_log("leaves"))


STAYS = """
            threading.Thread(target=threading.Event().wait, name="poller").start()
"""


async def test_a_thread_that_holds_the_end_up_is_named_in_the_log(
    network: AgentNetwork, write_mod: Callable[..., str], launch: str
) -> None:
    path = write_mod("leaves", LEAVES.format(more=STAYS))
    limits = {"shutdown_timeout": 0.5, "term_timeout": 0.1}
    assert (await network.load_mod(path, launch=launch, limits=limits)).success
    assert (await network.unload_mod("leaves")).success
    assert any("waits for 1 of its threads: poller" in line for line in network.mod_log("leaves"))
