// What the page says: one place for messages, one dialog for a fresh proof, one busy mark.
import { stepUp } from "./passkeys.mjs";

const place = (id) => document.getElementById(id);

export function say(text, kind = "") {
  const said = document.createElement("p");
  said.className = `say ${kind}`.trim();
  said.textContent = text;
  place("say").replaceChildren(said);
  place("say").scrollIntoView({ block: "nearest" });
}

export const hush = () => place("say").replaceChildren();

const provable = new Set(["step_up_required", "assurance_required"]);

// Asks for a fresh proof; resolves to whether there is one now.
export function confirm(why) {
  const dialog = place("confirm");
  place("confirm-why").textContent = why;
  place("confirm-say").hidden = true;
  return new Promise((resolve) => {
    const done = (proved) => {
      dialog.close();
      place("confirm-go").onclick = place("confirm-no").onclick = dialog.onclose = null;
      resolve(proved);
    };
    place("confirm-no").onclick = () => done(false);
    dialog.onclose = () => done(false);
    place("confirm-go").onclick = async () => {
      try {
        await stepUp();
        done(true);
      } catch (fault) {
        place("confirm-say").textContent = fault.message;
        place("confirm-say").hidden = false;
      }
    };
    dialog.showModal();
  });
}

// Runs `work`; where it asks for a fresh proof, gets one and runs it once more.
export async function doing(button, work) {
  if (button?.getAttribute("aria-busy") === "true") return;
  button?.setAttribute("aria-busy", "true");
  hush();
  try {
    try {
      await work();
    } catch (fault) {
      if (!provable.has(fault.code) || !document.querySelector("[data-do=logout]")) throw fault;
      if (await confirm(fault.message)) await work();
    }
  } catch (fault) {
    say(fault.message);
  } finally {
    button?.removeAttribute("aria-busy");
  }
}
