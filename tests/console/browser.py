"""Debian's Chromium, driven over its debugging protocol: windows that note every breach of the content policy, and authenticators.

The server's certificate is believed by its public key, as if its authority were installed: a browser that merely looks away from a
certificate error has no passkeys. Nothing of TLS is switched off.
"""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from playwright.sync_api import Browser, BrowserContext, CDPSession, Page, Playwright

from tests.live import Live

CHROMIUM = "/usr/bin/chromium"
_WATCH = """
window.breaches = window.breaches || [];
document.addEventListener('securitypolicyviolation', e => window.breaches.push(e.violatedDirective + ' ' + e.blockedURI));
"""


def spki(pem: Path) -> str:
    """Return the SHA-256 of a certificate's public key, as Chromium's switch takes it."""
    certificate = x509.load_pem_x509_certificate(pem.read_bytes())
    public = certificate.public_key().public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return base64.b64encode(hashlib.sha256(public).digest()).decode()


def launch_browser(playwright: Playwright, *servers: Path) -> Browser:
    """Start Chromium, believing these servers."""
    return playwright.chromium.launch(
        executable_path=CHROMIUM,
        args=[f"--ignore-certificate-errors-spki-list={','.join(spki(one) for one in servers)}", "--disable-dev-shm-usage"],
        chromium_sandbox=False,
    )


class Device:
    """A virtual authenticator of a window (WebDriver: section 11 of WebAuthn level 3)."""

    def __init__(self, session: CDPSession, **options: Any) -> None:
        self._session = session
        self._session.send("WebAuthn.enable", {"enableUI": False})
        said = {
            "protocol": "ctap2", "ctap2Version": "ctap2_1", "transport": "internal", "hasResidentKey": True,
            "hasUserVerification": True, "isUserVerified": True, "automaticPresenceSimulation": True, **options,
        }  # fmt: skip
        self.id = session.send("WebAuthn.addVirtualAuthenticator", {"options": said})["authenticatorId"]

    def credentials(self) -> list[dict[str, Any]]:
        """Return the credentials it holds, private keys too."""
        return list(self._session.send("WebAuthn.getCredentials", {"authenticatorId": self.id})["credentials"])

    def add(self, credential: dict[str, Any]) -> None:
        """Put a credential in."""
        self._session.send("WebAuthn.addCredential", {"authenticatorId": self.id, "credential": credential})

    def remove(self) -> None:
        """Take the device away."""
        self._session.send("WebAuthn.removeVirtualAuthenticator", {"authenticatorId": self.id})

    def verifies(self, *, user: bool) -> None:
        """Say whether its user passes the device's check."""
        self._session.send("WebAuthn.setUserVerified", {"authenticatorId": self.id, "isUserVerified": user})


class Window:
    """A browser profile of one person with one page: what it saw is looked at when it closes."""

    def __init__(self, browser: Browser, live: Live, **options: Any) -> None:
        self.live = live
        self.origin = f"https://localhost:{live.port}"
        self.context: BrowserContext = browser.new_context(base_url=self.origin, **options)
        self.context.add_init_script(_WATCH)
        self.page: Page = self.context.new_page()
        self.complaints: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.complaints.append(message.text) if message.type == "error" else None)
        self.page.on("pageerror", lambda fault: self.complaints.append(str(fault)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.set_default_timeout(15_000)

    def device(self, **options: Any) -> Device:
        """Attach an authenticator to the page."""
        return Device(self.context.new_cdp_session(self.page), **options)

    def cookies(self) -> dict[str, dict[str, Any]]:
        """Return the cookies, by name."""
        return {one["name"]: dict(one) for one in self.context.cookies()}

    def breaches(self) -> list[str]:
        """Return what the content policy stopped on the page that is open, and what the console says of policies."""
        self.page.wait_for_load_state("networkidle")
        stopped = list(self.page.evaluate("window.breaches || []"))
        return stopped + [text for text in self.complaints if "Content Security Policy" in text or "integrity" in text]

    def enrol(self, token: str, label: str = "laptop") -> None:
        """Enrol a passkey with an invitation or a first token, and end at the login page."""
        self.page.goto("/ui/enrol")
        self.page.fill("#e-token", token)
        self.page.click("text=Go on")
        self.page.fill("#e-label", label)
        self.page.click("text=Make a passkey")
        self.page.wait_for_url("**/ui/login?enrolled=1")

    def login(self) -> None:
        """Log in with the passkey."""
        self.page.goto("/ui/login")
        self.page.click("text=Log in with a passkey")
        self.page.wait_for_url("**/ui/account")


@contextmanager
def window(browser: Browser, live: Live, **options: Any) -> Iterator[Window]:
    """Open a window, and see at its end that no page broke its own policy."""
    opened = Window(browser, live, **options)
    try:
        yield opened
        assert opened.breaches() == []
    finally:
        opened.context.close()
