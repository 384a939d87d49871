import { createHash, randomBytes } from "node:crypto";
import { equal } from "./until.mjs";

const CLICKS = 5;
const UPLOAD_BYTES = 2_000_000;
const CLIENTS = { websocket: "WebSocket", longpoll: "LongPoll" };

// What Ada and Bob do with the same LiveView, each in a browser of their own.
export function liveView({ ada, bob, transport, protocol }) {
  const both = [ada, bob];

  return {
    "a LiveView mounts, with the session of each": async () => {
      for (const person of both) {
        await person.logIn();
        await person.isLive();
        await person.shows("name", person.name);
        equal(await person.page.evaluate(() => window.live.socket.transport.name), CLIENTS[transport]);
      }
    },

    [`requests come by ${protocol}`]: async () => equal((await asked(ada)).protocol, protocol),

    ...(transport === "websocket" && connection(ada, protocol)),

    "clicks are counted": async () => {
      // While one is not answered, LiveView ignores others.
      for (let count = 1; count <= CLICKS; count++) {
        await ada.click("add");
        await ada.shows("count", String(count));
      }
      await bob.shows("count", "0");
    },

    "PubSub reaches both": async () => {
      await bob.click("tell");
      for (const person of both) await person.shows("told", `by ${bob.name}`);
    },

    "each sees that the other is present": async () => {
      const hasBoth = (seen) => both.every(({ name }) => seen.split(" ").includes(name));
      for (const person of both) await person.showsWhat("present", "both names", hasBoth);
    },

    "a patch, and the way back, keep the mount": async () => {
      const mount = await ada.text("mount");
      for (const page of ["2", "3"]) {
        await ada.click("patch");
        await ada.shows("page", page);
      }
      equal(new URL(ada.page.url()).search, "?page=3");
      await ada.back();
      await ada.shows("page", "2");
      await ada.shows("mount", mount);
      await ada.shows("count", String(CLICKS));
    },

    "a navigation to another LiveView, and back, is no reload": async () => {
      const [mark, mount] = [await ada.mark(), await ada.text("mount")];
      await ada.click("navigate");
      await ada.shows("other", "Another LiveView");
      await ada.click("back");
      await ada.shows("page", "5");
      await ada.isLive(mount);
      await ada.shows("count", "0");
      equal(await ada.mark(), mark);
      equal(await ada.closes(), []);
    },

    "a file of 2 MB is uploaded": async () => {
      const data = randomBytes(UPLOAD_BYTES);
      await ada.choose(data);
      await ada.click("send");
      const digest = createHash("sha256").update(data).digest("hex");
      await ada.shows("digest", `${UPLOAD_BYTES} ${digest}`);
    },

    "a LiveView that crashes mounts again": async () => {
      const [mark, mount] = [await ada.mark(), await ada.text("mount")];
      await ada.click("add");
      await ada.shows("count", "1");
      await ada.click("crash");
      await ada.isLive(mount);
      await ada.shows("count", "0");
      await ada.shows("page", "5");
      await ada.click("add");
      await ada.shows("count", "1");
      equal(await ada.mark(), mark);
      equal(await ada.closes(), []);
    },
  };
}

// The server tells each connection by the port of its peer: a WebSocket with that of a request by HTTP/2 is a
// stream beside it (RFC 8441).
function connection(ada, protocol) {
  const isShared = async () => (await ada.text("port")) === String((await asked(ada)).port);

  return protocol === "HTTP/2"
    ? { "the WebSocket is a stream of the page's connection": async () => equal(await isShared(), true) }
    : { "the WebSocket has a connection of its own": async () => equal(await isShared(), false) };
}

// How a request of the page reaches the app.
function asked(person) {
  return person.page.evaluate(async () => (await fetch("/protocol")).json());
}
