"""Downloads, from a server on this machine: whole and verified, or not at all."""

import hashlib
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from metavision.data.download import Archive, fetched
from metavision.errors import InputError

CONTENT = b"an archive" * 5000
ADVICE = "place it by hand"


class Answer(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        if self.path == "/missing":
            self.send_error(404)
            return
        self.send_response(200)
        self.send_header("Content-Length", str(len(CONTENT)))
        self.end_headers()
        self.wfile.write(CONTENT[:100] if self.path == "/cut" else CONTENT)

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def address() -> Iterator[str]:
    with ThreadingHTTPServer(("127.0.0.1", 0), Answer) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_address[1]}"
        server.shutdown()


def archive(address: str, md5: str | None = None) -> Archive:
    return Archive("set.zip", address, md5 or hashlib.md5(CONTENT).hexdigest())


def fetch(one: Archive, folder: Path, *, download: bool = True) -> Path:
    return fetched("The set", one, folder, advice=ADVICE, download=download)


def test_it_is_fetched_once(address: str, tmp_path: Path) -> None:
    home = tmp_path / "set"
    path = fetch(archive(f"{address}/whole"), home)
    assert path == home / "set.zip" and path.read_bytes() == CONTENT
    assert fetch(archive("http://127.0.0.1:1/nobody"), home) == path
    assert [inner.name for inner in home.iterdir()] == ["set.zip"]


@pytest.mark.parametrize("what", ["missing", "cut", "wrong", "nobody"])
def test_what_fails_leaves_nothing_and_says_what_to_do(what: str, address: str, tmp_path: Path) -> None:
    one = archive(f"{address}/{what}", "0" * 32 if what == "wrong" else None)
    if what == "nobody":
        one = archive("http://127.0.0.1:1/nobody")
    with pytest.raises(InputError) as error:
        fetch(one, tmp_path / "set")
    expected = {"wrong": "is damaged or another file", "cut": "it ended after 100 of 50000 bytes"}.get(what, ADVICE)
    assert expected in str(error.value)
    assert not list((tmp_path / "set").iterdir())


def test_nothing_is_fetched_where_that_is_not_wanted(address: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"The set is not below .*; {ADVICE}"):
        fetch(archive(f"{address}/whole"), tmp_path / "set", download=False)
