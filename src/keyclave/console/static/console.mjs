// What the buttons and forms of the pages do. Pieces of pages come by htmx; here is what needs a passkey.
import { post } from "./ask.mjs";
import { tick } from "./clock.mjs";
import { enrol, login, sign } from "./passkeys.mjs";
import { confirm, doing, hush, say } from "./speak.mjs";

const place = (id) => document.getElementById(id);
const field = (form, name) => form.elements.namedItem(name).value;
const go = (path) => window.location.replace(path);

function arrived() {
  go(place("login").dataset.next);
}

function refresh() {
  for (const one of document.querySelectorAll("[data-fresh]")) window.htmx.trigger(one, "refresh");
}

// ---- buttons ------------------------------------------------------------------------------------------------------------------
const deeds = {
  "login-passkey": async () => {
    await login();
    arrived();
  },
  logout: async () => {
    await post("/v1/logout").catch((fault) => {
      if (fault.status !== 401) throw fault;
    });
    go("/ui/login?left=1");
  },
  "cli-grant": async (button) => {
    const [port, state, challenge] = button.dataset.cli.split(".");
    const granted = await post("/v1/login/cli/grant", { port: Number(port), state, challenge });
    const target = new URL(granted.redirect);
    if (target.protocol !== "http:" || target.hostname !== "127.0.0.1" || target.port !== port) throw new Error("Not a command line of this computer.");
    go(target.href);
  },
  approve: async (button) => {
    await sign(button.dataset.approval, button.dataset.sum, place("canonical").textContent);
    refresh();
    say("You signed the request.", "good");
  },
  refresh: async () => refresh(),
};

document.addEventListener("click", (event) => {
  const button = event.target.closest("button[data-do]");
  if (button) doing(button, () => deeds[button.dataset.do](button));
});

// ---- forms --------------------------------------------------------------------------------------------------------------------
let ceremony = "";
let bearer = "";

function welcome(said) {
  place("enrol-begin").hidden = true;
  place("enrol-make").hidden = false;
  place("e-principal").textContent = said.principal;
  place("e-role").textContent = said.role;
  if (said.invited_by) {
    place("e-by").textContent = said.invited_by;
    place("e-by").hidden = place("e-by-term").hidden = false;
  }
  place("e-label").focus();
}

async function whoHolds(token) {
  const answer = await fetch("/v1/whoami", { headers: { authorization: `Bearer ${token}` }, credentials: "omit", cache: "no-store" });
  if (!answer.ok) throw new Error("The token opens nothing. Check that you pasted all of it.");
  return answer.json();
}

async function begin(token) {
  if (token.startsWith("kct_")) {
    welcome(await whoHolds(token));
    bearer = token;
  } else {
    welcome(await post("/v1/enrolment/begin", { invitation: token, cookie: true }));
    bearer = "";
  }
}

const forms = {
  "login-password": async (form) => {
    const begun = await post("/v1/login/password", { principal: field(form, "principal"), password: field(form, "password") });
    ceremony = begun.ceremony;
    form.reset();
    form.hidden = true;
    place("login-code").hidden = false;
    place("p-code").focus();
  },
  "login-code": async (form) => {
    try {
      await post("/v1/login/totp", { ceremony, code: field(form, "code"), cookie: true });
    } catch (fault) {
      form.reset();
      form.hidden = true;
      place("login-password").hidden = false;
      place("p-principal").focus();
      throw fault;
    }
    arrived();
  },
  "login-recovery": async (form) => {
    await post("/v1/login/recovery", {
      principal: field(form, "principal"), code: field(form, "code"), password: field(form, "password"), cookie: true,
    });
    go("/ui/enrol");
  },
  "enrol-begin": async () => {
    const token = place("e-token").value.trim();
    place("e-token").value = "";
    await begin(token);
  },
  "enrol-passkey": async (form) => {
    await enrol(field(form, "label"), bearer);
    if (!bearer) await post("/v1/logout").catch(() => {});
    bearer = "";
    go("/ui/login?enrolled=1");
  },
  "add-passkey": async (form) => {
    await enrol(field(form, "label"));
    window.location.reload();
  },
};

document.addEventListener("submit", (event) => {
  const work = forms[event.target.id];
  if (!work) return;
  event.preventDefault();
  doing(event.submitter, () => work(event.target));
});

// An invitation may come in the fragment, which browsers send nowhere; it is taken out of the address before anything else.
const token = window.location.hash.slice(1);
if (token) window.history.replaceState(null, "", window.location.pathname + window.location.search);
if (place("enrol-begin") && /^kc[it]_[A-Za-z0-9_-]+$/.test(token)) doing(null, () => begin(token));

// ---- pieces that htmx brings ----------------------------------------------------------------------------------------------------
document.addEventListener("htmx:beforeRequest", hush);
document.addEventListener("htmx:afterSwap", (event) => {
  tick();
  event.detail.target.querySelector("[data-focus]")?.focus();
});
document.addEventListener("htmx:sendError", () => say("The server cannot be reached. Try again in a moment."));
document.addEventListener("htmx:responseError", async (event) => {
  const { elt, xhr, requestConfig } = event.detail;
  let said = {};
  try {
    said = JSON.parse(xhr.responseText);
  } catch {
    said = { said: "The server could not do this." };
  }
  const provable = said.code === "step_up_required" || said.code === "assurance_required";
  const again = provable && !elt.dataset.again && (await confirm(said.said));
  if (!again) {
    say(said.said);
    return;
  }
  elt.dataset.again = "1";
  await window.htmx.ajax(requestConfig.verb.toUpperCase(), requestConfig.path, {
    source: elt,
    target: requestConfig.target,
    values: Object.fromEntries(requestConfig.formData),
  });
  delete elt.dataset.again;
});

// A page that the browser kept, or that was away for a while, shows what is so now.
window.addEventListener("pageshow", (event) => {
  if (event.persisted) window.location.reload();
});
document.addEventListener("visibilitychange", () => {
  if (document.visibilityState === "visible") refresh();
});
