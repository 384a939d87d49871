// The official clients. How they connect is what the test has put into `window.transport`.
import { LongPoll, Socket } from "/phoenix/phoenix.mjs";
import { LiveSocket } from "/phoenix_live_view/phoenix_live_view.esm.js";

const FALLBACK_MS = 20_000;
// Its own would let a test wait for up to five seconds.
const RECONNECT_MS = 200;

const transports = {
  websocket: { transport: window.WebSocket },
  longpoll: { transport: LongPoll },
  fallback: { longPollFallbackMs: FALLBACK_MS },
};
const options = { reconnectAfterMs: () => RECONNECT_MS, ...transports[window.transport] };
const csrf = document.querySelector("meta[name=csrf-token]").content;

// It reloads a page that the browser has kept, also one without a LiveView.
if (document.querySelector("[data-phx-main]")) {
  window.live = new LiveSocket("/live", Socket, { params: { _csrf_token: csrf }, ...options });
  window.live.connect();
}

// Joins a room, and remembers what is said there. Resolves to the outcome.
window.join = (name, topic, params = {}) => {
  window.socket ??= new Socket("/socket", { params: { name }, ...options });
  window.socket.connect();
  const room = window.socket.channel(topic, params);
  window.heard = [];
  for (const event of ["said", "secret"]) {
    room.on(event, async (payload) => window.heard.push([event, await shown(payload)]));
  }
  window.room = room;
  return outcome(room.join());
};

// Resolves to what becomes of a push: `["ok", reply]`, `["error", reply]` or `["timeout"]`.
window.push = (event, payload, ms) => outcome(window.room.push(event, payload, ms));

window.bytes = (size) => Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8)).buffer;

window.digest = async (data) => {
  const bytes = typeof data === "string" ? new TextEncoder().encode(data) : data;
  const hash = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(hash, (byte) => byte.toString(16).padStart(2, "0")).join("");
};

function outcome(push) {
  return new Promise((resolve) => {
    push
      .receive("ok", async (reply) => resolve(["ok", await shown(reply)]))
      .receive("error", async (reply) => resolve(["error", await shown(reply)]))
      .receive("timeout", () => resolve(["timeout"]));
  });
}

// Bytes as their digest.
async function shown(payload) {
  return payload instanceof ArrayBuffer ? window.digest(payload) : payload;
}
