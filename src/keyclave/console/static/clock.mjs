// Clocks that count down, by the server's time: this machine's may be wrong.
const meta = document.querySelector("meta[name=now]");
const ahead = meta ? Date.now() - Date.parse(meta.content) : 0;

const two = (number) => String(number).padStart(2, "0");

function left(seconds) {
  const hours = Math.floor(seconds / 3600);
  const minutes = Math.floor((seconds % 3600) / 60);
  if (hours >= 48) return `${Math.floor(hours / 24)} days`;
  return hours ? `${hours}:${two(minutes)}:${two(seconds % 60)}` : `${minutes}:${two(seconds % 60)}`;
}

export function tick() {
  for (const one of document.querySelectorAll("time[data-ends]")) {
    const seconds = Math.ceil((Date.parse(one.dataset.ends) - (Date.now() - ahead)) / 1000);
    one.title = one.title || one.textContent;
    one.dateTime = one.dataset.ends;
    one.textContent = seconds > 0 ? left(seconds) : "ended";
    if (seconds <= 0 && "reload" in one.dataset) {
      delete one.dataset.reload;
      window.location.reload();
    }
  }
}

tick();
setInterval(tick, 1000);
