// The other end of LobbyWeb.RoomChannel, with Phoenix's own client and without LiveView.
import { Presence, Socket } from "/assets/phoenix/phoenix.mjs";

const MAX_MESSAGES = 200;
const $ = (id) => document.getElementById(id);
const csrfToken = document.querySelector("meta[name=csrf-token]").content;

const socket = new Socket("/socket", { params: { _csrf_token: csrfToken } });
const room = socket.channel("room:lobby");
const presence = new Presence(room);
let me;

// The socket comes back by itself, and then the channel joins again.
socket.onError(() => showStatus("Reconnecting…"));
socket.connect();

room.on("said", showMessage);
presence.onSync(showPeople);

room
  .join()
  .receive("ok", ({ id }) => {
    me = id;
    showStatus("Online");
  })
  .receive("error", ({ reason }) => showStatus(reason));

$("composer").addEventListener("submit", (event) => {
  event.preventDefault();
  const text = $("text");
  room
    .push("say", { text: text.value })
    .receive("ok", () => {
      text.value = "";
      showStatus("Online");
    })
    .receive("error", ({ reason }) => showStatus(reason))
    .receive("timeout", () => showStatus("Nobody has answered."));
});

function showStatus(text) {
  $("status").textContent = text;
  $("status").classList.toggle("online", text === "Online");
}

function showMessage({ from, text }) {
  const log = $("log");
  const message = element("p", from.id === me ? "message mine" : "message");
  message.append(element("b", "", from.name), element("bdi", "text", text));
  log.append(message);
  while (log.children.length > MAX_MESSAGES) log.firstChild.remove();
  log.scrollTop = log.scrollHeight;
}

function showPeople() {
  const people = presence.list((id, { metas }) => ({ id, name: metas[0].name, pages: metas.length }));
  people.sort((a, b) => a.name.localeCompare(b.name));
  $("count").textContent = people.length;
  $("people").replaceChildren(...people.map(personItem));
}

function personItem({ id, name, pages }) {
  const item = element("li");
  item.append(avatar(id, name), element("bdi", "", name));
  if (pages > 1) item.append(element("span", "tag", `${pages} pages`));
  if (id === me) item.append(element("span", "tag", "you"));
  return item;
}

// By the same sum as in LobbyWeb.Layouts, so that a person has one colour everywhere.
function avatar(id, name) {
  const hue = [...id].reduce((sum, char) => sum + char.charCodeAt(0), 0) % 6;
  const node = element("span", `avatar hue-${hue}`, [...name][0]);
  node.ariaHidden = "true";
  return node;
}

function element(tag, className = "", text = "") {
  const node = document.createElement(tag);
  node.className = className;
  node.textContent = text;
  return node;
}
