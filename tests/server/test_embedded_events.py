"""Events of a store in a folder, by one server and by two workers: whoever puts, whoever answers, none is missed."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.integration.command_runs import graviton
from tests.server.following import Follower
from tests.server.serving import Served


@pytest.mark.parametrize("workers", [1, 2])
def test_a_follower_that_comes_again_and_again_misses_nothing(tmp_path: Path, workers: int) -> None:
    root = tmp_path / "store"
    (tmp_path / "file").write_bytes(b"by the command line")
    with Served(root, "--workers", str(workers)) as server:
        follower = Follower(server)
        last = next(follower.blocks())["id"]
        follower.close()
        put: list[str] = []
        seen: list[str] = []
        for turn in range(6):  # each connection is answered by some worker, and each put by some other
            put += [server.put(b"%d of %d" % (number, turn)) for number in range(3)]
            if turn == 3:
                put.append(graviton(root, "put", tmp_path / "file", "--json").objects[0]["id"])
            follower = Follower(server, last=last)
            found = follower.events(len(put) - len(seen))
            follower.close()
            seen += [subject for _, _, subject in found]
            last = found[-1][0]
        assert seen == put


def test_a_follower_hears_of_puts_of_others_while_he_waits(tmp_path: Path) -> None:
    root = tmp_path / "store"
    (tmp_path / "file").write_bytes(b"by the command line")
    with Served(root) as server:
        follower = Follower(server)
        next(follower.blocks())
        put = graviton(root, "put", tmp_path / "file", "--json").objects[0]["id"]
        assert [one[1:] for one in follower.events(1)] == [("blob.committed", put)]
        assert server.request("DELETE", f"/api/blobs/{put}").status == 204
        assert server.request("POST", f"/api/blobs/{put}/undelete").status == 200
        assert [one[1] for one in follower.events(2)] == ["blob.deleted", "blob.committed"]
        assert server.stop() == 0
        assert follower.answer.read() == b"", "the stream ended in order"
        follower.close()
