"""The server's door: this machine alone, files of the root alone, and one line for each refusal."""

import json
import urllib.error
import urllib.request
from pathlib import Path

import pytest

REX = Path(__file__).parents[2] / "examples" / "rex" / "0.png"


def ask(server, path, method="GET", data=None, **headers):
    request = urllib.request.Request(server.url + path, data, headers, method=method)
    try:
        with urllib.request.urlopen(request, timeout=20) as answer:
            return answer.status, answer.read(), answer.headers
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read(), error.headers


def test_the_page_is_its_own_and_names_no_other_host(server) -> None:
    status, text, headers = ask(server, "/")
    assert status == 200
    assert "default-src 'self'" in headers["Content-Security-Policy"]
    assert headers["X-Content-Type-Options"] == "nosniff"
    assert b"fonts.googleapis.com" not in text


@pytest.mark.parametrize("headers", [{"Host": "evil.example"}, {"Origin": "http://evil.example"}, {"Origin": "null"}])
def test_other_hosts_and_other_pages_are_refused(server, headers) -> None:
    for path, method in (("/", "GET"), ("/model", "GET"), ("/job/x/stop", "POST"), ("/gradio_api/queue/join", "POST")):
        status, text, _ = ask(server, path, method, b"{}" if method == "POST" else None, **headers)
        assert (status, json.loads(text)["detail"]) == (403, "this page is for this machine alone")


@pytest.mark.parametrize(
    "path",
    [
        *(
            "/file//etc/passwd",
            "/file/%2e%2e/%2e%2e/etc/passwd",
            "/file/..%2f..%2fetc%2fpasswd",
            "/file/renders",
            "/zip/uploads",
        ),
        *("/file/.git/config", "/zip/..", "/file/uploads/../../x.png", "/job/none", "/file/%00"),
    ],
)
def test_files_that_are_not_the_pages_are_not_there(server, path) -> None:
    status, text, _ = ask(server, path)
    assert status == 404
    assert b"\n" not in text.strip()


def test_gradios_own_door_shows_no_file_of_the_machine_or_of_the_root(server, root) -> None:
    (root / "private.png").write_bytes(REX.read_bytes())
    for path in ("/etc/passwd", str(root / "private.png"), str(REX)):
        status, text, _ = ask(server, f"/gradio_api/file={path}")
        assert status in (403, 404), path
        assert b"root:" not in text


def test_a_path_in_place_of_an_upload_is_refused(server) -> None:
    """What a browser sends as an uploaded file must be one."""
    config = json.loads(ask(server, "/config")[1])
    uploads = [each["id"] for each in config["components"] if each["type"] == "file"]
    names = [each for each in config["dependencies"] if each["inputs"] and each["inputs"][0] in uploads]
    assert names
    payload = {
        "data": [[{"path": "/etc/passwd", "meta": {"_type": "gradio.FileData"}}], {"photos": []}],
        "fn_index": names[0]["id"],
        "session_hash": "hostile",
    }
    body = json.dumps(payload).encode()
    status, text, _ = ask(server, "/gradio_api/queue/join", "POST", body, **{"Content-Type": "application/json"})
    if status == 200:
        with urllib.request.urlopen(f"{server.url}/gradio_api/queue/data?session_hash=hostile", timeout=20) as stream:
            text = b""
            for line in stream:
                text += line
                if b"process_completed" in line:
                    break
        assert b'"success":false' in text.replace(b" ", b"")
    assert b"root:" not in text


def test_too_large_an_upload_is_refused(server) -> None:
    boundary, size = "xx", 65 * 2**20
    head = f'--{boundary}\r\nContent-Disposition: form-data; name="files"; filename="a.png"\r\n\r\n'.encode()
    body = head + b"\0" * size + f"\r\n--{boundary}--\r\n".encode()
    kind = f"multipart/form-data; boundary={boundary}"
    status, _, _ = ask(server, "/gradio_api/upload", "POST", body, **{"Content-Type": kind})
    assert status in (413, 400)


def test_stopping_takes_a_page_of_ones_own(server) -> None:
    assert ask(server, "/job/none/stop", "POST", b"")[0] == 404
