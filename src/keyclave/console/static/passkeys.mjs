// Passkeys: from the server's JSON to the browser's call and back (WebAuthn level 3, base64url without padding).
import { Refusal, post } from "./ask.mjs";

const toBytes = (text) => Uint8Array.from(atob(text.replaceAll("-", "+").replaceAll("_", "/")), (c) => c.charCodeAt(0));
const toText = (raw) => btoa(String.fromCharCode(...new Uint8Array(raw))).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
const named = (list) => (list || []).map((one) => ({ ...one, id: toBytes(one.id) }));

function plain(credential) {
  const { response } = credential;
  const said = { clientDataJSON: toText(response.clientDataJSON) };
  if (response.attestationObject) {
    said.attestationObject = toText(response.attestationObject);
    said.transports = response.getTransports ? response.getTransports() : [];
  } else {
    said.authenticatorData = toText(response.authenticatorData);
    said.signature = toText(response.signature);
    if (response.userHandle) said.userHandle = toText(response.userHandle);
  }
  return { id: credential.id, rawId: toText(credential.rawId), type: credential.type, response: said, clientExtensionResults: {} };
}

function failed(fault) {
  if (fault.name === "InvalidStateError") return new Refusal({ detail: "this device holds a passkey of yours already", hint: "use another device, or log in with it" }, 0);
  if (fault.name === "NotAllowedError" || fault.name === "AbortError") return new Refusal({ detail: "the passkey was not used", hint: "try again; the request ends after some minutes" }, 0);
  if (fault.name === "SecurityError") return new Refusal({ detail: "passkeys do not work under this address", hint: "open the page under the name at its foot" }, 0);
  return new Refusal({ detail: "the passkey could not be used", hint: "try another one" }, 0);
}

async function asked(call) {
  if (!window.PublicKeyCredential) throw new Refusal({ detail: "this browser has no passkeys", hint: "use a newer one, or open the page over TLS" }, 0);
  try {
    return plain(await call());
  } catch (fault) {
    throw fault instanceof Refusal ? fault : failed(fault);
  }
}

export function get(options) {
  const publicKey = { ...options, challenge: toBytes(options.challenge), allowCredentials: named(options.allowCredentials) };
  return asked(() => navigator.credentials.get({ publicKey }));
}

export function create(options) {
  const publicKey = {
    ...options,
    challenge: toBytes(options.challenge),
    user: { ...options.user, id: toBytes(options.user.id) },
    excludeCredentials: named(options.excludeCredentials),
  };
  return asked(() => navigator.credentials.create({ publicKey }));
}

export async function enrol(label, token = "") {
  const begun = await post("/v1/authenticators/passkey/begin", {}, token);
  const credential = await create(begun.publicKey);
  return post("/v1/authenticators/passkey/finish", { ceremony: begun.ceremony, credential, label }, token);
}

export async function login() {
  const begun = await post("/v1/login/passkey/begin", {});
  const credential = await get(begun.publicKey);
  return post("/v1/login/passkey/finish", { ceremony: begun.ceremony, credential, cookie: true });
}

export async function stepUp() {
  const begun = await post("/v1/step-up/passkey/begin", {});
  const credential = await get(begun.publicKey);
  return post("/v1/step-up/passkey/finish", { ceremony: begun.ceremony, credential });
}

// What is signed is checked here against what the page shows: the statement must name the hash of the very text on the screen.
export async function sign(approval, shownSum, shownText) {
  const begun = await post(`/v1/approvals/${approval}/begin`, {});
  const digest = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.canonical));
  const sum = [...new Uint8Array(digest)].map((byte) => byte.toString(16).padStart(2, "0")).join("");
  const said = JSON.parse(begun.statement);
  if (begun.canonical !== shownText || sum !== shownSum || said.request !== shownSum || said.decision !== "approve") {
    throw new Refusal({ detail: "what would be signed is not what this page shows", hint: "load the page again, and read it again" }, 0);
  }
  if (!begun.publicKey) throw new Refusal({ detail: "your newest authenticator is a signing key", hint: "approve on the command line, or enrol a passkey" }, 0);
  const challenge = await crypto.subtle.digest("SHA-256", new TextEncoder().encode(begun.statement));
  if (toText(challenge) !== begun.publicKey.challenge) {
    throw new Refusal({ detail: "the challenge is not the hash of the statement", hint: "load the page again" }, 0);
  }
  const credential = await get(begun.publicKey);
  return post(`/v1/approvals/${approval}/sign`, { statement: begun.statement, credential });
}
