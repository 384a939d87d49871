// node main.mjs BUILD CERTFILE KEYFILE LOG
//
// People use the app of test/phoenix, which Mix has built in BUILD, in Chromium, by the official clients, also
// while it is stopped, killed and started again: over HTTP, over HTTPS with WebSockets that are streams of
// HTTP/2, and by long polls. A line for each step, `ok NAME` or `not ok NAME: WHY` with what was seen below it.
// The app's log goes to LOG.

import { X509Certificate, createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { launch } from "../browser.mjs";
import { App } from "./app.mjs";
import { channels } from "./channels.mjs";
import { backAndForth, fallback } from "./detours.mjs";
import { judge, leave, restart } from "./lives.mjs";
import { liveView } from "./live_view.mjs";
import { Person } from "./person.mjs";
import { walk } from "./walk.mjs";

const [build, certfile, keyfile, log] = process.argv.slice(2);

const app = new App(build, log, { CERTFILE: certfile, KEYFILE: keyfile });
await app.start();
const browser = await launch({
  args: [trust(certfile)],
  // People's browsers keep the pages that one has left. Playwright's does not, for its own comfort.
  ignoreDefaultArgs: ["--disable-back-forward-cache"],
});
const arrive = (name, origin, transport) => Person.arrive(browser, name, origin, transport);

const plain = `http://127.0.0.1:${app.port}`;
const secure = `https://127.0.0.1:${app.tlsPort}`;
const ways = [
  { title: "WebSocket, http", transport: "websocket", origin: plain, protocol: "HTTP/1.1" },
  { title: "WebSocket, https", transport: "websocket", origin: secure, protocol: "HTTP/2" },
  { title: "long poll, http", transport: "longpoll", origin: plain, protocol: "HTTP/1.1" },
  { title: "long poll, https", transport: "longpoll", origin: secure, protocol: "HTTP/2" },
];

// The ways on which all went well. What comes after cannot succeed on others, whose people leave.
const walked = [];
for (const [number, way] of ways.entries()) {
  way.ada = await arrive(`ada${number}`, way.origin, way.transport);
  way.bob = await arrive(`bob${number}`, way.origin, way.transport);
  const steps = { ...liveView(way), ...channels(way) };
  const people = [way.ada, way.bob];
  if (await walk(way.title, app, people, steps)) walked.push(way);
  else await Promise.all(people.map(({ page }) => page.close()));
}

const adas = walked.map(({ ada }) => ada);
const bobs = walked.map(({ bob }) => bob);
const cleo = await arrive("cleo", plain, "fallback");
const dora = await arrive("dora", plain, "websocket");
const emil = await arrive("emil", secure, "websocket");

await walk("tabs", app, [...adas, ...bobs, emil], leave(app, adas, bobs, emil));
await walk("SIGTERM", app, adas, restart(app, walked, "SIGTERM", 0, { code: 1012, wasClean: true }));
await walk("kill -9", app, adas, restart(app, walked, "SIGKILL", "SIGKILL", { code: 1006, wasClean: false }));
await walk("fallback", app, [cleo], fallback(cleo));
await walk("back and forth", app, [dora], backAndForth(dora));

await browser.close();
await walk("the end", app, [], judge(app, [...adas, ...bobs, cleo, dora, emil], 2 * walked.length));
process.exit();

// The browser takes the certificate at once. Else it ends connections by an alert first, before it overlooks
// what is wrong with it.
function trust(certfile) {
  const key = new X509Certificate(readFileSync(certfile)).publicKey;
  const hash = createHash("sha256").update(key.export({ type: "spki", format: "der" }));
  return `--ignore-certificate-errors-spki-list=${hash.digest("base64")}`;
}
