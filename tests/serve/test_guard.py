"""Who gets in, and what is done with what they send: each case of a hostile or unlucky sender."""

import http.client
import json
import socket
import time
from urllib.parse import quote

import pytest

from maskseg.serve.session import LOG


@pytest.fixture(scope="module")
def server(served, tmp_path_factory, sample_images):
    """One for all that leave it as it was."""
    folder = tmp_path_factory.mktemp("served")
    (folder / "secret.txt").write_text("outside of everything that is served")
    server = served(folder / "work", "--upload-limit", "2", sample_images[0])
    server.key = server.get("/api/state")["images"][0]["key"]
    yield server
    server.stop()


@pytest.fixture
def own(serve, sample_images):
    """One that may be broken."""
    server = serve("--upload-limit", "2", sample_images[0])
    server.key = server.get("/api/state")["images"][0]["key"]
    return server


def raw(server, method, path, headers=(), body=b""):
    """An answer to exactly these headers."""
    host, port = server.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.putrequest(method, path, skip_host=True, skip_accept_encoding=True)
    for name, value in headers:
        connection.putheader(name, value)
    connection.endheaders(body or None)
    answer = connection.getresponse()
    return answer.status, answer.read(), answer.headers


def good(server):
    host = server.address.removeprefix("http://")
    return [("Host", host), ("Authorization", f"Bearer {server.token}")]


@pytest.mark.parametrize("path", ["/", "/api/state", "/api/docs", "/api/openapi.json", "/api/events", "/assets/a.js"])
@pytest.mark.parametrize("token", [None, "", "wrong", "é", "A" * 5000])
def test_without_the_token_nobody_is_in(server, path, token):
    headers = {"Authorization": None if token is None else f"Bearer {token}".encode().decode("latin-1")}
    status, content = server.ask("GET", path, headers=headers)
    assert status == 401
    said = content["detail"] if path.startswith("/api/") else content.decode()
    assert "token" in said and server.token not in said
    assert server.ask("GET", f"{path}?token=wrong", headers={"Authorization": None})[0] == 401
    assert server.ask("GET", path, headers={"Authorization": None, "Cookie": "maskseg-1=x; a=;;=,"})[0] == 401


def test_the_opened_address_gives_a_cookie_that_no_other_site_can_send(server):
    host = server.address.removeprefix("http://")
    status, _, headers = raw(server, "GET", f"/?token={server.token}", [("Host", host)])
    assert (status, headers["location"]) == (303, "/")
    cookie = headers["set-cookie"]
    assert "HttpOnly" in cookie and "SameSite=Strict" in cookie
    assert raw(server, "GET", "/api/state", [("Host", host), ("Cookie", cookie.split(";")[0])])[0] == 200


@pytest.mark.parametrize(
    "host", ["evil.example", "127.0.0.1.evil.example:80", "localhost:1", "", "[::1", "maskseg@evil"]
)
def test_the_name_of_another_site_leads_nowhere(server, host):
    headers = [("Host", host), ("Authorization", f"Bearer {server.token}")]
    assert raw(server, "GET", "/api/state", headers)[0] in (400, 421)


def test_a_request_without_a_host_leads_nowhere(server):
    assert raw(server, "GET", "/api/state", [("Authorization", f"Bearer {server.token}")])[0] in (400, 421)


@pytest.mark.parametrize(
    "origin", ["http://evil.example", "null", "https://127.0.0.1", "http://127.0.0.1:1", "http://[", ""]
)
def test_another_site_may_not_send(server, origin):
    for method, path in (("POST", "/api/predictions"), ("GET", "/api/state"), ("PUT", "/api/upload/a.png")):
        assert raw(server, method, path, [*good(server), ("Origin", origin), ("Content-Length", "0")])[0] == 403
    assert raw(server, "GET", "/api/state", [*good(server), ("Sec-Fetch-Site", "cross-site")])[0] == 403
    assert raw(server, "GET", "/api/state", [*good(server), ("Origin", server.address)])[0] == 200


@pytest.mark.parametrize(
    "path",
    [
        "/../secret.txt",
        "/..%2fsecret.txt",
        "/%2e%2e/%2e%2e/secret.txt",
        "/assets/..%5c..%5csecret.txt",
        "//etc/passwd",
        "/api/images/..%2f..%2fsecret.txt/thumbnail",
        "/api/images/../thumbnail",
        "/api/jobs/1/compared/..%2f..%2fsecret/before",
        "/api/jobs/99/compared/a/before",
        "/api/images/%00/tiles/0/0/0",
    ],
)
def test_no_path_leads_outside(server, path):
    status, content, _ = raw(server, "GET", path, good(server))
    assert status in (400, 404, 422)
    assert b"outside of everything" not in content and b"root:" not in content


OUTSIDE = ("../e.png", "a/../../e.png", "/etc/e.png", "C:/e.png", "a\\..\\..\\e.png", ".e.png", "a/.b/e.png")


@pytest.mark.parametrize("name", OUTSIDE)
def test_no_upload_leads_outside(server, sample_images, name):
    data = sample_images[0].read_bytes()
    length = ("Content-Length", str(len(data)))
    status, _, _ = raw(server, "PUT", f"/api/upload/{quote(name, safe='')}", [*good(server), length], data)
    assert 400 <= status < 500
    assert not list(server.folder.parent.rglob("*.png"))


def test_an_upload_beyond_the_limit_is_refused_before_it_is_sent(server):
    begin = time.monotonic()
    status, content, _ = raw(server, "PUT", "/api/upload/huge.tif", [*good(server), ("Content-Length", str(2 << 30))])
    assert status == 413 and b"maskseg serve PATH" in content
    assert time.monotonic() - begin < 20


def test_an_upload_that_hides_its_size_ends_at_the_limit(server):
    host, port = server.address.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        head = f"PUT /api/upload/huge.tif HTTP/1.1\r\nHost: {host}:{port}\r\nAuthorization: Bearer {server.token}\r\n"
        connection.sendall(head.encode() + b"Transfer-Encoding: chunked\r\n\r\n")
        try:
            for _ in range(64):
                connection.sendall(b"%x\r\n" % (1 << 16) + bytes(1 << 16) + b"\r\n")
            answer = connection.recv(4096)
        except ConnectionError:
            answer = b"HTTP/1.1 413"  # hung up on while it still sent
    assert answer.startswith(b"HTTP/1.1 413")
    assert not [path for path in server.folder.glob("uploads/*") if path.is_file()]


MALFORMED = (
    b"",
    b"{",
    b"[]",
    b"null",
    b"\xff\xfe",
    b'{"edit": {"op": "format-disk"}}',
    b'{"edit": {"op": "add", "ring": [[1]]}}',
    b'{"edit": {"op": "add", "ring": [[NaN, 1], [2, 2], [3, 3]]}}',
    b'{"edit": {"op": "add", "ring": [[1e999, 1], [2, 2], [3, 3]]}}',
    b'{"edit": {"op": "delete", "ids": [1], "extra": 1}}',
    b'{"edit": {"op": "brush", "points": [[1, 1]], "radius": -1}}',
    b'{"edit": ' * 2000,
    b'{"edit": {"op": "delete", "ids": ["' + b"9" * 5000 + b'"]}}',
)


@pytest.mark.parametrize("body", MALFORMED)
def test_malformed_edits_are_refused_in_words_and_change_nothing(server, body):
    before = server.get(f"/api/images/{server.key}")
    status, content = server.ask("POST", f"/api/images/{server.key}/edits", body)
    assert status in (400, 422)
    assert isinstance(content["detail"], str) and content["detail"]
    assert server.get(f"/api/images/{server.key}") == before


def test_a_form_of_another_site_is_no_json(server):
    headers = {"Content-Type": "application/x-www-form-urlencoded"}
    body = b'{"edit": {"op": "delete", "ids": [1]}}'
    assert server.ask("POST", f"/api/images/{server.key}/edits", body, headers)[0] == 422


def test_an_edit_of_five_megabytes_is_refused(server):
    length = ("Content-Length", str(5 << 20))
    assert raw(server, "POST", f"/api/images/{server.key}/edits", [*good(server), length])[0] == 413


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("text.png", b"no image at all"),
        ("empty.tif", b""),
        ("cut.png", b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR"),
        ("script.exe", b"MZ"),
        ("page.html", b"<script>alert(1)</script>"),
        ("none", b"abc"),
    ],
)
def test_what_is_no_image_is_refused_with_its_name_and_not_kept(server, name, content):
    status, answer = server.ask("PUT", f"/api/upload/{name}", content)
    assert status == 422
    assert name in answer["detail"] and str(server.folder) not in answer["detail"] and "\n" not in answer["detail"]
    assert not [path for path in server.folder.glob("uploads/**/*") if path.is_file()]


@pytest.mark.slow
def test_an_upload_is_an_image_like_the_others(own, sample_images):
    data = sample_images[1].read_bytes()
    status, row = own.ask("PUT", "/api/upload/a%20folder/my%20image.png", data)
    assert (status, row["name"]) == (200, "my image")
    assert own.get(f"/api/images/{row['key']}")["width"] > 0
    assert own.ask("PUT", "/api/upload/a%20folder/my%20image.png", data)[1]["name"] == "my image-2"
    assert len(own.get("/api/state")["images"]) == 3


@pytest.mark.slow
def test_answers_forbid_other_scripts_and_frames(server):
    for path in ("/", "/api/state"):
        headers = raw(server, "GET", path, good(server))[2]
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert "unsafe-eval" not in headers["content-security-policy"]
        assert headers["x-content-type-options"] == "nosniff"
        assert "access-control-allow-origin" not in headers


@pytest.mark.slow
def test_a_session_file_cut_in_half_is_told_and_used(own):
    for k in range(4):
        ring = [[k * 20, 5], [k * 20 + 15, 5], [k * 20 + 15, 30], [k * 20, 30]]
        assert own.ask("POST", f"/api/images/{own.key}/edits", {"edit": {"op": "add", "ring": ring}})[0] == 200
    own.kill()
    log = own.folder / "images" / own.key / LOG
    log.write_bytes(log.read_bytes()[: log.stat().st_size * 6 // 10])
    own.start()
    details = own.get(f"/api/images/{own.key}")
    assert "cut short" in details["notice"]
    assert 0 < details["count"] < 4
    assert own.ask("POST", f"/api/images/{own.key}/undo")[0] == 200


@pytest.mark.slow
def test_one_folder_has_one_server(own, serve):
    with pytest.raises(AssertionError, match="another run is writing into this folder"):
        serve("--port", "0")


@pytest.mark.slow
def test_a_folder_that_cannot_be_written(own):
    before = own.get(f"/api/images/{own.key}")
    uploads = own.folder / "uploads"
    uploads.write_text("a file where the folder should be")
    status, answer = own.ask("PUT", "/api/upload/a.png", b"abc")
    assert status == 422 and "cannot be written" in answer["detail"]
    assert own.get(f"/api/images/{own.key}") == before


@pytest.mark.slow
def test_events_are_told_to_whoever_listens(own):
    host, port = own.address.removeprefix("http://").split(":")
    connection = http.client.HTTPConnection(host, int(port), timeout=30)
    connection.request("GET", "/api/events", headers={"Authorization": f"Bearer {own.token}"})
    answer = connection.getresponse()
    assert answer.headers["content-type"].startswith("text/event-stream")
    assert answer.readline() == b"retry: 1000\n"
    ring = [[1, 5], [15, 5], [15, 30], [1, 30]]
    own.ask("POST", f"/api/images/{own.key}/edits", {"edit": {"op": "add", "ring": ring}})
    lines = []
    while not lines or not lines[-1].startswith(b"data"):
        lines.append(answer.readline())
    assert lines[-2] == b"event: edited\n"
    assert json.loads(lines[-1][6:])["version"] == 1
