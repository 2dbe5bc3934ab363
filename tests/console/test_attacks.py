"""Attacks on the pages, tried in a browser: other sites, frames, planted text, kept pages, links that lead elsewhere."""

from __future__ import annotations

import itertools
import ssl
import threading
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import httpx
import pytest

from tests.console.browser import Window
from tests.live import Live, free_port, launch

Open = Callable[..., Window]
Invite = Callable[..., str]
_number = itertools.count(1)


class Elsewhere:
    """Another server on this host: the same site, another origin, which is the nearest an attacker comes. `page` is what it shows."""

    def __init__(self, live: Live) -> None:
        self.page = ""
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                body = outer.page.encode()
                self.send_response(200)
                self.send_header("content-type", "text/html")
                self.send_header("content-length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(live.home / "tls" / "server.pem", live.home / "tls" / "server.key")
        self._server.socket = context.wrap_socket(self._server.socket, server_side=True)
        self.url = f"https://localhost:{self._server.server_address[1]}/"
        threading.Thread(target=self._server.serve_forever, daemon=True).start()

    def close(self) -> None:
        self._server.shutdown()
        self._server.server_close()


@pytest.fixture(scope="module")
def elsewhere(house: Live) -> Iterator[Elsewhere]:
    server = Elsewhere(house)
    yield server
    server.close()


@pytest.fixture
def somebody(open_window: Open, invited: Invite) -> Window:
    """A person who is logged in."""
    window = open_window()
    window.device()
    window.enrol(invited(f"somebody-{next(_number)}"))
    window.login()
    return window


def sessions_of(window: Window, house: Live) -> int:
    """Return how many sessions the person has, or 0 when the cookie opens nothing."""
    answer = house.get("/v1/sessions", window.cookies()["__Host-keyclave"]["value"])
    return len(answer.json()["sessions"]) if answer.status_code == 200 else 0


# ---- other sites --------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R31")
def test_a_form_of_another_origin_does_nothing(somebody: Window, house: Live, elsewhere: Elsewhere) -> None:
    for target in ("/v1/logout", "/ui/account/recovery", "/ui/account/password", "/v1/authenticators/recovery"):
        elsewhere.page = (
            f'<form method="post" enctype="text/plain" action="{somebody.origin}{target}"><input name=\'{{"x":"\' value=\'"}}\'></form>'
            "<script>document.forms[0].submit()</script>"
        )
        with somebody.page.expect_response(lambda answer, target=target: target in answer.url) as caught:
            somebody.page.goto(elsewhere.url)
        # the browser did send the cookie: every port of a host is one site
        assert "__Host-keyclave=" in caught.value.request.all_headers().get("cookie", "")
        assert caught.value.status == 403
        assert sessions_of(somebody, house) == 1
    somebody.page.goto("/ui/account")
    assert somebody.page.locator("#authenticators li").count() == 1


@pytest.mark.requirement("R31")
def test_a_script_of_another_origin_does_nothing_and_reads_nothing(somebody: Window, house: Live, elsewhere: Elsewhere) -> None:
    elsewhere.page = "<p>elsewhere</p>"
    somebody.page.goto(elsewhere.url)
    for method, path, mode in [
        ("POST", "/v1/logout", "no-cors"),
        ("POST", "/ui/account/recovery", "no-cors"),
        ("GET", "/v1/sessions", "no-cors"),
        ("GET", "/ui/account", "no-cors"),
        ("POST", "/v1/logout", "cors"),
        ("GET", "/v1/whoami", "cors"),
    ]:
        asked = {"method": method, "mode": mode, "credentials": "include", **({"body": "{}"} if method == "POST" else {})}
        with somebody.page.expect_event("request", lambda one, path=path: path in one.url) as _:
            read = somebody.page.evaluate(
                "async ([url, options]) => { try { const a = await fetch(url, options); return await a.text(); } catch (e) { return ''; } }",
                [somebody.origin + path, asked],
            )
        assert read == "", f"{method} {path} {mode} was read"
    assert sessions_of(somebody, house) == 1
    somebody.complaints.clear()  # the other origin's page was refused, and its console says so


def test_what_would_be_refused_by_the_browser_is_refused_by_the_server_too(somebody: Window, house: Live) -> None:
    cookie = {"cookie": "__Host-keyclave=" + somebody.cookies()["__Host-keyclave"]["value"], "host": f"localhost:{house.port}"}
    ours = somebody.origin
    for more, status in [
        ({}, 403),
        ({"origin": "https://evil.example"}, 403),
        ({"origin": "null"}, 403),
        ({"origin": ours + ".evil.example"}, 403),
        ({"sec-fetch-site": "same-site"}, 403),
        ({"sec-fetch-site": "cross-site"}, 403),
        ({"sec-fetch-site": "none"}, 403),
        ({"sec-fetch-site": "same-origin", "origin": "https://evil.example"}, 403),
        ({"sec-fetch-site": "cross-site", "origin": ours}, 403),
        ({"sec-fetch-site": "same-origin", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document", "origin": "null"}, 403),
        ({"origin": ours}, 200),
        ({"sec-fetch-site": "same-origin"}, 200),
        ({"sec-fetch-site": "same-origin", "origin": ours}, 200),
    ]:
        answer = house.post("/v1/sessions/ses_x/revoke", headers={**cookie, **more})
        assert answer.status_code == (404 if status == 200 else status), (more, answer.text)
        page = house.request("POST", "/ui/account/sessions/ses_x/revoke", headers={**cookie, **more})
        assert page.status_code == (404 if status == 200 else status), more
    assert house.get("/v1/whoami", headers=cookie).status_code == 200  # reading, by a program that says nothing of sites
    assert house.get("/v1/whoami", headers={**cookie, "sec-fetch-site": "cross-site"}).status_code == 403
    assert house.get("/ui/account", headers={**cookie, "sec-fetch-site": "same-site"}).status_code == 403


def test_only_a_session_lives_in_a_cookie_and_two_are_none(house: Live) -> None:
    ours = {"origin": f"https://localhost:{house.port}"}
    for value in [
        f"__Host-keyclave={house.tokens['custodian']}",
        "__Host-keyclave=kcs_" + "A" * 43,
        "__Host-keyclave=kcs_a; __Host-keyclave=kcs_b",
        f"keyclave={house.tokens['custodian']}",
    ]:
        assert house.get("/v1/whoami", headers={**ours, "cookie": value}).status_code == 401


@pytest.mark.requirement("R31")
def test_nobody_is_logged_in_by_another_site(house: Live) -> None:
    for path, body in [
        ("/v1/enrolment/begin", {"invitation": "kci_" + "A" * 43, "cookie": True}),
        ("/v1/login/totp", {"ceremony": "abc", "code": "123456", "cookie": True}),
        ("/v1/login/recovery", {"principal": "x", "code": "y", "cookie": True}),
    ]:
        for headers in ({}, {"sec-fetch-site": "cross-site"}, {"origin": "https://evil.example"}, {"sec-fetch-site": "none"}):
            refused = house.post(path, body=body, headers=headers)
            assert (refused.status_code, "own pages" in refused.json()["detail"]) == (403, True), (path, headers)


# ---- frames, links, kept pages ---------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R31")
def test_no_page_is_shown_in_a_frame(somebody: Window, elsewhere: Elsewhere) -> None:
    for path in ("/ui/login", "/ui/account", "/ui/approvals", "/ui/device", "/ui/enrol", "/ui/nothing"):
        elsewhere.page = f'<iframe id="f" src="{somebody.origin}{path}"></iframe>'
        somebody.page.goto(elsewhere.url)
        somebody.page.wait_for_load_state()
        shown = [frame for frame in somebody.page.frames if frame.parent_frame]
        assert len(shown) == 1
        assert "Keyclave" not in shown[0].content(), path
    somebody.complaints.clear()


def test_a_login_goes_on_to_our_own_pages_alone(somebody: Window) -> None:
    for aim in (
        "https://evil.example/", "//evil.example", "/ui/../v1/status", "/ui/account?x=//evil", "javascript:alert(1)",
        "/ui/approvals/apr_a/../x", "\\\\evil", "/ui/account\n", "/ui/accounts",
    ):  # fmt: skip
        somebody.page.goto("/ui/login?" + str(httpx.QueryParams({"next": aim})))
        assert somebody.page.url == somebody.origin + "/ui/account", aim


def test_a_login_goes_on_to_the_page_that_asked_for_it(open_window: Open, invited: Invite) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("goes-on"))
    window.page.goto("/ui/device")
    assert window.page.url.endswith("/ui/login?next=/ui/device")
    window.page.click("text=Log in with a passkey")
    window.page.wait_for_url("**/ui/device")


def test_after_logout_the_back_button_shows_nobody(somebody: Window) -> None:
    name = somebody.page.text_content("h1")
    somebody.page.goto("/ui/device")
    somebody.page.goto("/ui/account")
    somebody.page.click("text=Log out")
    somebody.page.wait_for_url("**/ui/login?left=1")
    assert "__Host-keyclave" not in somebody.cookies()
    for _ in range(3):
        somebody.page.go_back()
        somebody.page.wait_for_load_state()
        assert name is not None
        assert name not in somebody.page.content()


def test_a_page_asked_for_by_address_goes_to_the_name_passkeys_are_made_for(house: Live) -> None:
    answer = house.get("/ui/login?cli=1", headers={"host": f"127.0.0.1:{house.port}"})
    assert (answer.status_code, answer.headers["location"]) == (307, f"https://localhost:{house.port}/ui/login?cli=1")
    named = house.get("/ui/login", headers={"host": "evil.example"})
    assert named.status_code == 200  # no redirect is made of what a request says of its host
    assert "evil.example" not in named.text


# ---- planted text -----------------------------------------------------------------------------------------------------------------
PLANTED = "<img src=x onerror=window.owned=1><script>window.owned=1</script>'\"{{7*7}}"


@pytest.mark.requirement("R31")
def test_a_label_is_text_whatever_it_says(somebody: Window) -> None:
    somebody.device(transport="usb")
    somebody.page.fill("#a-label", PLANTED[:64])
    with somebody.page.expect_navigation():
        somebody.page.click("text=Add a passkey")
    assert somebody.page.locator("#authenticators bdi").last.inner_text() == PLANTED[:64]
    assert somebody.page.evaluate("window.owned") is None


@pytest.mark.parametrize("field", ["next", "cli", "enrolled", "left"])
def test_an_address_puts_nothing_into_a_page(open_window: Open, field: str) -> None:
    window = open_window()
    window.page.goto(f"/ui/login?{field}=" + "%22%3E%3Cscript%3Ewindow.owned=1%3C/script%3E")
    assert window.page.evaluate("window.owned") is None
    assert "window.owned" not in window.page.content().replace("window.owned=1%3C", "")


def test_the_policy_stops_what_is_planted_and_the_watch_sees_it(open_window: Open) -> None:
    window = open_window()
    window.page.goto("/ui/login")
    window.page.evaluate(
        """async () => {
          const script = document.createElement('script'); script.textContent = 'window.owned = 1'; document.body.append(script);
          const image = document.createElement('img'); image.src = 'https://evil.example/x'; document.body.append(image);
          document.body.setAttribute('style', 'color: red');
          const box = document.createElement('div'); box.innerHTML = '<p onclick="window.owned=1" style="color:red">x</p>';
          document.body.append(box); box.firstChild.click();
          setTimeout(() => { try { eval('window.owned = 1'); } catch {} });
          try { await fetch('https://evil.example/'); } catch {}
          for (let i = 0; i < 100 && !window.breaches.some(one => one.includes('eval')); i++) await new Promise(done => setTimeout(done, 20));
        }"""
    )
    window.page.wait_for_load_state("networkidle")
    assert window.page.evaluate("window.owned") is None
    stopped = " ".join(window.page.evaluate("window.breaches"))
    for what in ("script-src-elem", "script-src-attr", "img-src", "style-src-attr", "connect-src", "script-src eval"):
        assert what in stopped
    window.complaints.clear()
    window.page.goto("/ui/login")


def test_a_form_is_read_strictly(somebody: Window, house: Live) -> None:
    headers = {"cookie": "__Host-keyclave=" + somebody.cookies()["__Host-keyclave"]["value"], "origin": somebody.origin}
    for body, status in [
        (b"reason=a&reason=b", 400), (b"reason=%ff", 400), (b"reason", 400), (b"\xff=1", 400), (b"a=1&" * 17, 400),
        (b"reason=" + b"x" * 20_000, 413), (b'{"reason": "x"}', 400), (b"reason=" + b"x" * 501, 400), (b"reason=%00", 400),
        (b"", 400), (b"reason=&other=1", 400),
    ]:  # fmt: skip
        for path in ("/ui/account/elevations", "/ui/device/grant"):
            answer = house.request("POST", path, content=body, headers=headers)
            assert answer.status_code == status, (body[:20], path, answer.text)


def test_where_keys_are_only_used_there_are_no_pages(tmp_path: Path) -> None:
    port = free_port()
    both = launch(
        tmp_path, "--development", unseal=False,
        configure=lambda text: text + f'\n[data]\nhost = "127.0.0.1"\nport = {port}\ncertificate = "tls/server.pem"\nkey = "tls/server.key"\n',
    )  # fmt: skip
    try:
        host = {"host": f"localhost:{both.port}"}
        assert both.get("/ui/login", headers=host).status_code == 200
        there = f"https://127.0.0.1:{port}"
        for path in ("/ui/login", "/ui/", "/ui/enrol", "/ui/static/0/console.css"):
            assert both.http.get(there + path).status_code == 404
    finally:
        both.stop()


# ---- headers ----------------------------------------------------------------------------------------------------------------------
@pytest.mark.requirement("R31")
def test_every_answer_of_the_pages_has_the_same_hard_headers(somebody: Window, house: Live) -> None:
    cookie = {
        "cookie": "__Host-keyclave=" + somebody.cookies()["__Host-keyclave"]["value"],
        "sec-fetch-site": "same-origin",
        "host": f"localhost:{house.port}",
    }
    asked = [
        house.get("/ui/login"), house.get("/ui/"), house.get("/ui/account"), house.get("/ui/account", headers=cookie),
        house.get("/ui/nothing"), house.get("/ui/static/0/console.css"), house.get("/ui/static/0/../login"),
        house.request("POST", "/ui/account/totp", headers=cookie), house.request("POST", "/ui/account/totp"),
        house.get("/ui/login?x=1"), house.get("/ui/approvals/apr_none", headers=cookie),
    ]  # fmt: skip
    for answer in asked:
        said = answer.headers
        policy = dict(part.strip().partition(" ")[::2] for part in said["content-security-policy"].split(";"))
        assert policy == {
            "default-src": "'none'", "script-src": "'self'", "style-src": "'self'", "img-src": "'self'", "connect-src": "'self'",
            "form-action": "'self'", "frame-ancestors": "'none'", "base-uri": "'none'",
        }, answer.url  # fmt: skip
        assert said["cross-origin-opener-policy"] == said["cross-origin-resource-policy"] == "same-origin"
        assert (said["x-content-type-options"], said["referrer-policy"]) == ("nosniff", "no-referrer")
        assert said["strict-transport-security"].startswith("max-age=31536000")
        assert said["cache-control"] == "no-store"


def test_files_are_kept_for_good_under_their_digest_and_scripts_are_named_with_their_hash(open_window: Open, house: Live) -> None:
    window = open_window()
    answers = {}
    window.page.on("response", lambda answer: answers.update({answer.url: answer.all_headers()}))
    window.page.goto("/ui/login")
    window.page.wait_for_load_state("networkidle")
    files = {url: said for url, said in answers.items() if "/ui/static/" in url}
    assert len(files) >= 7
    assert {said["cache-control"] for said in files.values()} == {"public, max-age=31536000, immutable"}
    bare = window.page.evaluate(
        "[...document.querySelectorAll('script, link[rel=stylesheet]')].filter(e => !/^sha256-/.test(e.integrity)).length"
    )
    assert bare == 0
    inline = window.page.evaluate("document.querySelectorAll('script:not([src]), style, [style], [onclick]').length")
    assert inline == 0
    wrong = next(iter(files)).replace("/ui/static/", "/ui/static/0")
    assert house.get(wrong.partition(str(house.port))[2]).status_code == 404


def test_the_vendored_script_is_the_one_that_the_readme_names(house: Live) -> None:
    import hashlib
    from importlib.resources import files

    folder = files("keyclave.console").joinpath("static")
    sum_ = hashlib.sha256(folder.joinpath("htmx.min.js").read_bytes()).hexdigest()
    assert f"`{sum_}`" in folder.joinpath("README.md").read_text()
