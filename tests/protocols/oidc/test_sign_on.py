"""Single sign-on against a certified provider: who gets in, as whom, how surely, with which roles."""

from __future__ import annotations

import time

import pytest

from tests.protocols.oidc.house import ALGORITHMS, Browser, House, changed, link_in, query_of

pytestmark = pytest.mark.requirement("R30")


@pytest.mark.parametrize("name", [*ALGORITHMS, "corp-key"])
def test_an_invited_person_logs_in_under_every_algorithm(house: House, name: str) -> None:
    principal = house.invite(f"oidc:{name}:carol")
    browser = house.browser()
    page = browser.sign_on("carol", name)
    assert page.status_code == 200, page.text
    assert link_in(page.text) == "/ui/account"
    who = house.who(browser)
    assert (who["principal"], who["role"], who["how"], who["aal"]) == (principal, "person", "oidc", 1)


def test_the_session_is_in_a_strict_cookie_and_the_sign_on_of_this_browser_is_over(house: House) -> None:
    house.invite("oidc:corp:dave")
    browser = house.browser()
    back = browser.prove(browser.begin(), "dave")
    assert browser.http.cookies.get("__Host-keyclave-sign-on")
    page = browser.get(back)
    cookies = page.headers.get_list("set-cookie")
    session = next(one for one in cookies if one.startswith("__Host-keyclave="))
    assert {"Secure", "HttpOnly", "SameSite=Strict", "Path=/"} <= set(session.split("; "))
    assert any(one.startswith("__Host-keyclave-sign-on=; Max-Age=0") for one in cookies)
    assert page.headers["referrer-policy"] == "no-referrer"
    assert page.headers["cache-control"] == "no-store"
    assert browser.token not in page.text
    assert browser.get(back).status_code == 403  # the browser holds no sign-on any more


def test_a_server_that_starts_anew_ends_what_was_begun_before(house: House) -> None:
    house.invite("oidc:corp:rupert")
    browser = house.browser()
    back = browser.prove(browser.begin(), "rupert")
    house.live.kill()  # the process that comes back shares its store and its root with the one that is gone, like another node
    house.live.restart()
    cookie = browser.http.cookies["__Host-keyclave-sign-on"]
    assert browser.get(back).status_code == 200
    assert house.who(browser)["principal"] == "oidc:corp:rupert"
    again = house.browser()
    again.http.cookies.set("__Host-keyclave-sign-on", cookie)
    assert again.get(back).status_code == 403


def test_who_was_not_invited_is_not_let_in_and_the_log_says_whom_to_invite(house: House) -> None:
    browser = house.browser()
    page = browser.sign_on("mallory")
    assert page.status_code == 401
    assert not browser.token
    refused = house.events("login")[-1]
    assert (refused["actor"], refused["outcome"]) == ("oidc:corp:mallory", "unauthenticated")


def test_one_name_at_two_providers_is_two_people(house: House) -> None:
    house.invite("oidc:corp:erin")
    assert house.browser().sign_on("erin").status_code == 200
    assert house.browser().sign_on("erin", "corp-ps").status_code == 401


def test_a_disabled_person_is_not_let_in(house: House) -> None:
    principal = house.invite("oidc:corp:frank")
    browser = house.browser()
    assert browser.sign_on("frank").status_code == 200
    assert house.live.post(f"/v1/people/{principal}/disable", "operator", {"reason": "left"}).status_code == 200
    assert house.live.get("/v1/whoami", browser.token).status_code == 401
    assert house.browser().sign_on("frank").status_code == 401


def test_policy_says_how_sure_a_login_is(house: House) -> None:
    house.invite("oidc:corp:grace")
    for said, level in [
        ({"acr": "urn:hospital:strong"}, 3), ({"amr": "pwd mfa"}, 2), ({"acr": "urn:hospital:password"}, 1),
        ({"acr": "urn:elsewhere:strong", "amr": "hwk"}, 1),
    ]:  # fmt: skip
        browser = house.browser()
        assert browser.sign_on("grace", said=said).status_code == 200
        assert house.who(browser)["aal"] == level


def test_groups_give_roles_of_the_own_duty_and_take_them_again(house: House) -> None:
    principal = house.invite("oidc:corp:alice")
    browser = house.browser()
    assert browser.sign_on("alice").status_code == 200
    # `night` is an operator's role and `canteen` none: neither is given to a person without that duty
    assert set(house.who(browser)["roles"]) == {"person", "researcher", "registrar"}
    house.provider.settings["accounts"]["alice"] = {"groups": ["registry"]}
    house.provider.stop()
    house.provider.start()
    again = house.browser()
    assert again.sign_on("alice").status_code == 200
    assert set(house.who(again)["roles"]) == {"person", "registrar"}
    assert set(house.who(browser)["roles"]) == {"person", "registrar"}  # her other session too, at once
    event = [one for one in house.events("login") if one["actor"] == principal][-1]
    assert event["detail"]["take"] == "researcher"


def test_roles_that_exclude_each_other_are_not_given(house: House) -> None:
    principal = house.invite("oidc:corp:bob")
    browser = house.browser()
    assert browser.sign_on("bob").status_code == 200
    assert house.who(browser)["roles"] == ["person"]
    event = [one for one in house.events("login") if one["actor"] == principal][-1]
    assert event["detail"]["not_given"] == "separation_of_duties"


def test_who_left_the_group_of_a_duty_no_longer_logs_in_with_it(house: House) -> None:
    house.invite("oidc:corp-es:dave")
    assert house.browser().sign_on("dave", "corp-es").status_code == 401


def test_keys_that_were_rotated_are_found(house: House) -> None:
    house.invite("oidc:corp:heidi")
    assert house.browser().sign_on("heidi").status_code == 200
    house.provider.rotate("second")
    assert house.browser().sign_on("heidi").status_code == 200


def test_a_login_leans_on_the_providers_session_but_a_confirmation_does_not(house: House) -> None:
    house.invite("oidc:corp:ivan")
    browser = house.browser()
    earlier = int(time.time()) - 1200
    assert browser.sign_on("ivan", said={"amr": "pwd mfa", "ts": str(earlier)}).status_code == 200
    assert browser.get(browser.prove(browser.begin())).status_code == 200  # no form this time
    before, token = house.who(browser), browser.token
    assert before["stepped_up_at"] == time.strftime("%Y-%m-%dT%H:%M:%S.000000Z", time.gmtime(earlier))
    asked = query_of(browser.begin(step_up="1"))
    assert (asked["prompt"], asked["max_age"]) == ("login", "0")
    page = browser.get(browser.prove(browser.begin(step_up="1"), "ivan", amr="pwd mfa"))
    assert page.status_code == 200, page.text
    after = house.who(browser)
    assert after["credential"] == before["credential"]
    assert after["stepped_up_at"] > before["stepped_up_at"]
    assert browser.token != token
    assert house.live.get("/v1/whoami", token).status_code == 401  # the old token is dead


def test_a_session_is_confirmed_by_its_own_person_no_less_surely(house: House) -> None:
    house.invite("oidc:corp:judy")
    house.invite("oidc:corp:kevin")
    browser = house.browser()
    assert browser.sign_on("judy", said={"amr": "mfa"}).status_code == 200
    browser.leave_provider()
    assert browser.get(browser.prove(browser.begin(step_up="1"), "kevin", amr="mfa")).status_code == 403
    browser.leave_provider()
    assert browser.get(browser.prove(browser.begin(step_up="1"), "judy", amr="pwd")).status_code == 403
    assert house.who(browser)["principal"] == "oidc:corp:judy"


def test_only_the_sessions_own_provider_confirms_it(house: House) -> None:
    house.invite("oidc:corp:laura")
    browser = house.browser()
    assert browser.sign_on("laura").status_code == 200
    assert browser.get("/v1/sso/corp-ps/start", params={"step_up": "1"}).status_code == 403
    assert house.browser().get("/v1/sso/corp/start", params={"step_up": "1"}).status_code == 401


# ---- attacks on the way -------------------------------------------------------------------------------------------------------
def _ready(house: House, login: str) -> tuple[Browser, str]:
    house.invite(f"oidc:corp:{login}")
    browser = house.browser()
    return browser, browser.prove(browser.begin(), login)


def test_an_answer_planted_in_another_browser_fits_nothing_there(house: House) -> None:
    _, back = _ready(house, "attacker")
    victim = house.browser()
    assert victim.get(back).status_code == 403
    victim.begin()  # even one that has begun a sign-on of its own
    assert victim.get(back).status_code == 403
    assert not victim.token


def test_a_state_of_another_login_is_refused(house: House) -> None:
    browser, back = _ready(house, "mike")
    for state in (None, "", "x" * 43, query_of(house.browser().begin())["state"]):
        assert browser.get(changed(back, state=state)).status_code == 403
    assert not browser.token


def test_an_answer_in_the_name_of_another_issuer_is_refused(house: House) -> None:
    for issuer in ("https://elsewhere.example", "", None):
        browser, back = _ready(house, "nina")
        assert query_of(back)["iss"] == house.provider.issuer
        assert browser.get(changed(back, iss=issuer)).status_code == 403
        assert not browser.token


def test_an_answer_at_another_providers_address_is_refused(house: House) -> None:
    browser, back = _ready(house, "oscar")
    assert browser.get(back.replace("/corp/", "/corp-ps/")).status_code == 403


def test_a_code_counts_once(house: House) -> None:
    browser, back = _ready(house, "peggy")
    cookie = str(browser.http.cookies.get("__Host-keyclave-sign-on"))
    assert browser.get(back).status_code == 200
    thief = house.browser()
    answer = thief.get(back, headers={"cookie": f"__Host-keyclave-sign-on={cookie}"})
    assert answer.status_code == 403
    assert not thief.token


def test_a_code_of_another_login_is_refused_by_its_verifier(house: House) -> None:
    _, stolen = _ready(house, "quentin")
    browser = house.browser()
    mine = browser.prove(browser.begin(), "quentin")
    assert browser.get(changed(mine, code=query_of(stolen)["code"])).status_code == 403
    assert not browser.token


def test_a_refusal_of_the_provider_is_one_of_ours(house: House) -> None:
    house.invite("oidc:corp:ruth")
    browser = house.browser()
    page = browser.get(browser.prove(browser.begin(), "ruth", deny="1"))
    assert page.status_code == 403
    assert "access_denied" not in page.text


@pytest.mark.parametrize(
    "query",
    [{"next": "https://elsewhere.example"}, {"redirect": "//elsewhere.example"}, {"cli": "https://elsewhere.example"},
     {"cli": "8080.x.y"}, {"cli": f"80801.{'a' * 43}.{'b' * 42}"}, {"step_up": "yes"}],
)  # fmt: skip
def test_nothing_a_link_says_is_a_place_to_go_to(house: House, query: dict[str, str]) -> None:
    answer = house.browser().get("/v1/sso/corp/start", params=query)
    assert answer.status_code in (400, 403)
    assert "location" not in answer.headers
    assert "elsewhere" not in answer.text


def test_a_command_line_that_waits_is_handed_the_way_and_asks_for_a_fresh_proof(house: House) -> None:
    house.invite("oidc:corp:sybil")
    waiting = f"8080.{'a' * 43}.{'b' * 43}"
    browser = house.browser()
    assert query_of(browser.begin(cli=waiting))["prompt"] == "login"
    page = browser.sign_on("sybil", cli=waiting)
    assert link_in(page.text) == f"/ui/login?cli={waiting}"


def test_a_login_that_leaned_on_an_old_proof_is_handed_on_only_after_a_new_one(house: House) -> None:
    house.invite("oidc:corp:trent")
    browser = house.browser()
    assert browser.sign_on("trent", said={"ts": str(int(time.time()) - 1200)}).status_code == 200
    waiting = {"port": 8080, "state": "s" * 43, "challenge": "c" * 43}
    refused = house.live.post("/v1/login/cli/grant", browser.token, waiting)
    assert (refused.status_code, refused.json()["code"]) == (403, "step_up_required")
    assert browser.get(browser.prove(browser.begin(step_up="1"), "trent")).status_code == 200
    assert house.live.post("/v1/login/cli/grant", browser.token, waiting).status_code == 200


def test_a_strange_provider_is_unknown_and_the_known_ones_are_listed(house: House) -> None:
    for path in ("/v1/sso/nobody/start", "/v1/sso/nobody/callback", "/v1/sso/CORP/start"):
        assert house.browser().get(path).status_code == 404
    said = house.live.get("/v1/sso").json()
    assert said["pages"] == house.origin
    listed = said["providers"]
    assert [one["name"] for one in listed] == sorted([*ALGORITHMS, "corp-key"])
    assert listed[0] == {"name": "corp", "label": "Hospital corp"}
