// The page of the chat: a WebSocket that comes back by itself, and what it says made visible.
// Whatever a person wrote reaches the page as text, never as HTML.

const MAX_ENTRIES = 500;
const GROUP_MS = 3 * 60_000;
const FIRST_DELAY_MS = 500;
const LAST_DELAY_MS = 15_000;

const $ = (id) => document.getElementById(id);
const clock = new Intl.DateTimeFormat(undefined, { hour: "2-digit", minute: "2-digit" });

let name = sessionStorage.getItem("name");
let me = null;
let members = new Map();
let lastSaid = null;

// Whoever reads older messages is not pulled down by new ones.
let following = true;

let socket = null;
let attempts = 0;
let retry = null;
let wasOnline = false;

function connect() {
  clearTimeout(retry);
  setStatus("connecting", wasOnline || attempts > 0 ? "Reconnecting…" : "Connecting…");

  const url = new URL("/chat", location.href);
  url.protocol = location.protocol === "https:" ? "wss:" : "ws:";

  const mine = new WebSocket(url);
  socket = mine;
  mine.onopen = () => send({ type: "join", name });
  mine.onmessage = ({ data }) => receive(JSON.parse(data));
  mine.onclose = () => {
    // A socket that was replaced has nothing more to say.
    if (socket === mine) disconnected();
  };
}

function disconnected() {
  socket = null;
  if (me) notice("The connection was lost.");
  me = null;
  showMembers(new Map());

  // Jitter, so that a restarted server does not see all its pages in the same instant.
  const delay = Math.min(FIRST_DELAY_MS * 2 ** attempts, LAST_DELAY_MS) * (0.5 + Math.random() / 2);
  attempts += 1;
  setStatus("connecting", "Reconnecting…");
  retry = setTimeout(connect, delay);
}

function send(message) {
  socket.send(JSON.stringify(message));
}

function leave() {
  const old = socket;
  socket = null;
  me = null;
  clearTimeout(retry);
  old?.close(1000);
  showMembers(new Map());
  setStatus("offline", "Offline");
}

// A network that is back, or a page that is looked at again, does not wait for the next attempt.
function hurry() {
  if (name && !socket && document.visibilityState === "visible") connect();
}

addEventListener("online", hurry);
document.addEventListener("visibilitychange", hurry);

// A page that the browser keeps for "back" has lost its socket when it is shown again.
addEventListener("pageshow", ({ persisted }) => persisted && hurry());

const receivers = {
  welcome({ id, name }) {
    me = id;
    attempts = 0;
    if (wasOnline) notice("Connected again.");
    wasOnline = true;
    setStatus("online", "Online");
    showMembers(new Map(members).set(id, name));
  },
  here({ id, name }) {
    showMembers(new Map(members).set(id, name));
  },
  joined({ id, name }) {
    notice(name, " joined");
    showMembers(new Map(members).set(id, name));
  },
  left({ id }) {
    notice(members.get(id), " left");
    const others = new Map(members);
    others.delete(id);
    showMembers(others);
  },
  said: showMessage,
  error({ message }) {
    notice(message);
  },
};

function receive(message) {
  receivers[message.type]?.(message);
}

function element(tag, className, ...children) {
  const node = document.createElement(tag);
  if (className) node.className = className;
  node.append(...children);
  return node;
}

function avatar(name) {
  const node = element("span", "avatar", [...name][0].toUpperCase());
  node.setAttribute("aria-hidden", "true");
  let hash = 0;
  for (const char of name) hash = (hash * 31 + char.codePointAt(0)) % 360;
  node.style.setProperty("--hue", hash);
  return node;
}

function setStatus(state, text) {
  const status = $("status");
  // Saying the same again would make a screen reader repeat it at each attempt.
  if (status.textContent !== text) status.textContent = text;
  status.dataset.state = state;
  enableSend();
}

function showMembers(next) {
  members = next;
  const sorted = [...members].sort(([, a], [, b]) => a.localeCompare(b));
  $("count").textContent = members.size;
  $("members").replaceChildren(
    ...sorted.map(([id, name]) => {
      const item = element("li", "", avatar(name), element("bdi", "", name));
      if (id === me) item.append(element("span", "you", "you"));
      return item;
    }),
  );
}

function showMessage({ id, name, text, at }) {
  const again = lastSaid?.id === id && at - lastSaid.at < GROUP_MS;
  lastSaid = { id, at };

  const time = element("time", "", clock.format(at));
  time.dateTime = new Date(at).toISOString();

  const body = element("div", "text", text);
  body.dir = "auto";

  const byline = element("div", "byline", element("b", "", element("bdi", "", name)), time);
  const entry = element("article", "entry message", avatar(name), byline, body);
  entry.classList.toggle("again", again);
  entry.classList.toggle("mine", id === me);
  append(entry, id === me);
}

function notice(...words) {
  lastSaid = null;
  const [first, ...rest] = words;
  append(element("p", "entry notice", element("bdi", "", first), ...rest), false);
}

function append(entry, mine) {
  const log = $("log");
  log.append(entry);
  while (log.children.length > MAX_ENTRIES) log.querySelector(".entry").remove();

  if (following || mine) scrollToEnd();
  else $("latest").hidden = false;
}

function scrollToEnd() {
  following = true;
  $("log").scrollTop = $("log").scrollHeight;
  $("latest").hidden = true;
}

$("latest").addEventListener("click", () => {
  scrollToEnd();
  $("text").focus();
});

$("log").addEventListener("scroll", ({ target: log }) => {
  following = log.scrollHeight - log.scrollTop - log.clientHeight < 60;
  if (following) $("latest").hidden = true;
});

// A draft that grows, or a phone's keyboard, takes room from the messages.
new ResizeObserver(() => following && scrollToEnd()).observe($("log"));

function enableSend() {
  $("send").disabled = !me || $("text").value.trim() === "";
}

function fitText() {
  const text = $("text");
  text.style.height = "auto";
  text.style.height = `${text.scrollHeight + 2}px`;
}

$("text").addEventListener("input", () => {
  enableSend();
  fitText();
});

$("text").addEventListener("keydown", (event) => {
  // While an input method composes, Enter picks a word.
  if (event.key !== "Enter" || event.shiftKey || event.isComposing) return;
  event.preventDefault();
  $("composer").requestSubmit();
});

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text").value.trim();
  // What cannot be sent now stays in the field.
  if (!me || text === "") return;
  send({ type: "say", text });
  $("text").value = "";
  enableSend();
  fitText();
  $("text").focus();
});

function askName() {
  $("name").value = name ?? `Guest ${1000 + Math.floor(Math.random() * 9000)}`;
  $("welcome").showModal();
  $("name").select();
}

$("join").addEventListener("submit", (event) => {
  const chosen = $("name").value.trim();
  if (chosen === "") {
    event.preventDefault();
    $("name").value = "";
    $("name").reportValidity();
    return;
  }
  if (chosen === name && socket) return;
  if (socket || retry) leave();
  name = chosen;
  sessionStorage.setItem("name", name);
  wasOnline = false;
  attempts = 0;
  connect();
});

$("welcome").addEventListener("close", () => name && $("text").focus());

// Without a name there is nothing behind the dialog to go back to.
$("welcome").addEventListener("cancel", (event) => {
  if (!name) event.preventDefault();
});

$("rename").addEventListener("click", askName);

// The list is open beside the messages, and folded above them where the screen is small.
if (matchMedia("(max-width: 48rem)").matches) $("people").open = false;

if (name) connect();
else askName();
