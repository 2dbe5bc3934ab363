// How scripts ask the server: JSON over the same REST operations as everybody. The session is the cookie, which no script sees.

export class Refusal extends Error {
  constructor(problem, status) {
    const hint = problem.hint ? `${problem.hint[0].toUpperCase()}${problem.hint.slice(1)}.` : "";
    const detail = problem.detail || "The server could not be asked";
    super(`${detail[0].toUpperCase()}${detail.slice(1)}. ${hint}`.trim());
    this.code = problem.code || "error";
    this.status = status;
  }
}

export async function post(path, body = {}, token = "") {
  const headers = { "content-type": "application/json" };
  if (token) headers.authorization = `Bearer ${token}`;
  let answer;
  try {
    answer = await fetch(path, { method: "POST", headers, body: JSON.stringify(body), credentials: "same-origin", redirect: "error", cache: "no-store" });
  } catch {
    throw new Refusal({ detail: "the server cannot be reached", hint: "try again in a moment" }, 0);
  }
  const said = await answer.json().catch(() => ({}));
  if (!answer.ok) throw new Refusal(said, answer.status);
  return said;
}
