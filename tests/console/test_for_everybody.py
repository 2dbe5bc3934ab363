"""The pages are for everybody: names for every control, headings in order, contrast, keyboard, narrow screens, dark and light."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from tests.console.browser import Window
from tests.console.test_approvals import ask
from tests.live import Live

Open = Callable[..., Window]
Invite = Callable[..., str]

# WCAG 2.2: 1.3.1, 2.4.1, 2.4.2, 2.4.6, 3.1.1, 3.3.2, 4.1.2, as far as a script can tell. Returns what is wrong.
STRUCTURE = """() => {
  const wrong = [];
  const shown = e => !!(e.offsetWidth || e.offsetHeight || e.getClientRects().length);
  const named = e => (e.getAttribute('aria-label') || '').trim() || [...(e.labels || [])].map(l => l.textContent).join('').trim()
    || (e.matches('button, a, summary') ? (e.textContent.trim() || [...e.querySelectorAll('img')].map(i => i.alt).join('')) : '');
  for (const e of document.querySelectorAll('a, button, summary, input:not([type=hidden]):not([hidden]), select, textarea'))
    if (shown(e) && !named(e)) wrong.push('no name: ' + e.outerHTML.slice(0, 120));
  for (const e of document.querySelectorAll('img')) if (!e.hasAttribute('alt')) wrong.push('no alt: ' + e.src);
  const ids = [...document.querySelectorAll('[id]')].map(e => e.id);
  for (const id of ids) if (ids.filter(i => i === id).length > 1) wrong.push('id twice: ' + id);
  for (const a of ['aria-labelledby', 'aria-describedby']) for (const e of document.querySelectorAll(`[${a}]`))
    for (const id of e.getAttribute(a).split(/\\s+/)) if (!document.getElementById(id)) wrong.push(`${a} names nothing: ${id}`);
  const levels = [...document.querySelectorAll('h1,h2,h3')].filter(shown).map(e => Number(e.tagName[1]));
  if (levels.filter(l => l === 1).length !== 1) wrong.push('not one h1: ' + levels);
  levels.forEach((l, i) => { if (i && l > levels[i - 1] + 1) wrong.push('heading skipped: ' + levels); });
  if (document.documentElement.lang !== 'en') wrong.push('no language');
  if (!document.title.includes('Keyclave')) wrong.push('no title');
  if (document.querySelectorAll('main').length !== 1) wrong.push('not one main');
  if (document.querySelector('a, button, input').className !== 'skip') wrong.push('the first stop is not the skip link');
  for (const e of document.querySelectorAll('[tabindex]')) if (Number(e.getAttribute('tabindex')) > 0) wrong.push('tabindex');
  return wrong;
}"""

# WCAG 2.2, 1.4.3 (text 4.5:1, large 3:1) and 2.5.8 (targets of 24 pixels), by what the browser computed.
LOOKS = """() => {
  const wrong = [];
  const rgb = text => { const n = text.match(/[\\d.]+/g).map(Number); return n.length === 4 ? n : [...n, 1]; };
  const light = c => { const v = c.slice(0, 3).map(x => (x /= 255) <= .04045 ? x / 12.92 : ((x + .055) / 1.055) ** 2.4);
    return .2126 * v[0] + .7152 * v[1] + .0722 * v[2]; };
  const behind = e => { for (let b = e; b; b = b.parentElement) { const c = rgb(getComputedStyle(b).backgroundColor); if (c[3] === 1) return c; }
    return [255, 255, 255, 1]; };
  const walk = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT);
  for (let n = walk.nextNode(); n; n = walk.nextNode()) {
    const e = n.parentElement;
    if (!n.textContent.trim() || !e.getClientRects().length || e.closest('noscript, .skip, .qr, dialog:not([open])')) continue;
    const style = getComputedStyle(e);
    const [a, b] = [light(rgb(style.color)), light(behind(e))].sort((x, y) => y - x);
    const ratio = (a + .05) / (b + .05);
    const large = parseFloat(style.fontSize) >= 24 || (parseFloat(style.fontSize) >= 18.66 && Number(style.fontWeight) >= 700);
    if (ratio < (large ? 3 : 4.5)) wrong.push(`${ratio.toFixed(2)}:1 ${n.textContent.trim().slice(0, 40)}`);
  }
  for (const e of document.querySelectorAll('button, summary, input:not([type=hidden]), .button')) {
    const box = e.getBoundingClientRect();
    if (box.width && (box.width < 24 || box.height < 24)) wrong.push(`small target: ${e.outerHTML.slice(0, 80)}`);
  }
  return wrong;
}"""

REQUEST = "a request"
PAGES = ["/ui/login", "/ui/enrol", "/ui/account", "/ui/device", "/ui/approvals", REQUEST, "/ui/nothing"]


@pytest.fixture(scope="module")
def state(browser: Any, house: Any, invited: Invite) -> Any:
    """The cookies of somebody who is logged in."""
    opened = Window(browser, house)
    opened.device()
    opened.enrol(invited("everybody", "custodian"))
    opened.login()
    kept = opened.context.storage_state()
    opened.context.close()
    return kept


@pytest.fixture(scope="module")
def asked(house: Live) -> str:
    """The page of a request that waits."""
    return f"/ui/approvals/{ask(house, reason='Superseded by the key of the new archive, as agreed')['id']}"


def visit(window: Window, path: str) -> None:
    window.page.goto(path)
    window.page.wait_for_load_state()
    for each in window.page.locator("details").all():
        each.evaluate("e => e.open = true")
    window.complaints = [text for text in window.complaints if "404" not in text]


@pytest.mark.parametrize("path", PAGES)
@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_control_has_a_name_and_every_text_stands_out(
    open_window: Open, state: Any, asked: str, path: str, scheme: str
) -> None:
    logged_in = {} if path in ("/ui/login", "/ui/enrol") else {"storage_state": state}
    window = open_window(color_scheme=scheme, **logged_in)
    visit(window, asked if path == REQUEST else path)
    assert window.page.evaluate(STRUCTURE) == []
    assert window.page.evaluate(LOOKS) == []


@pytest.mark.parametrize("path", PAGES)
def test_a_narrow_screen_shows_everything_without_scrolling_sideways(
    open_window: Open, state: Any, asked: str, path: str
) -> None:
    logged_in = {} if path in ("/ui/login", "/ui/enrol") else {"storage_state": state}
    window = open_window(viewport={"width": 360, "height": 640}, **logged_in)
    visit(window, asked if path == REQUEST else path)
    assert window.page.evaluate("document.documentElement.scrollWidth") <= 360


def test_the_checks_find_what_is_wrong(open_window: Open) -> None:
    window = open_window()
    window.page.goto("/ui/login")
    window.page.evaluate(
        """() => { const main = document.querySelector('main');
          const input = document.createElement('input'); input.id = 'login'; main.append(input, document.createElement('h3'), document.createElement('img'));
          const p = document.createElement('p'); p.textContent = 'faint'; p.style.color = '#ccc'; main.append(p); }"""
    )
    found = " ".join(window.page.evaluate(STRUCTURE))
    assert "no name" in found
    assert "id twice" in found
    assert "no alt" in found
    assert any("faint" in one for one in window.page.evaluate(LOOKS))


def test_logging_in_needs_no_mouse(open_window: Open, invited: Invite) -> None:
    window = open_window()
    window.device()
    window.enrol(invited("keys-alone"))
    window.page.goto("/ui/login")
    for _ in range(10):
        window.page.keyboard.press("Tab")
        if window.page.evaluate("document.activeElement.dataset.do") == "login-passkey":
            break
    outline = window.page.evaluate("getComputedStyle(document.activeElement).outlineStyle")
    assert outline == "solid"
    window.page.keyboard.press("Enter")
    window.page.wait_for_url("**/ui/account")
