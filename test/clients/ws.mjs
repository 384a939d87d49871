// node ws.mjs URL [http2]
//
// Checks an echo endpoint with npm's ws: one line per check, exit code 1 when one failed. ws offers
// permessage-deflate by itself; whether it is accepted is the server's affair. With http2, by prior
// knowledge, all connections of the checks are streams of one.

import { randomBytes } from "node:crypto";
import { once } from "node:events";
import WebSocket from "ws";

import { run } from "./checks.mjs";
import { overHttp2 } from "./ws_http2.mjs";

const [url, protocol] = process.argv.slice(2);
const connect = protocol === "http2" ? overHttp2(url) : (options) => new WebSocket(url, options);
const CHECK_MS = 15_000;
const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];

const checks = {};

for (const size of SIZES) {
  checks[`text of ${size} bytes`] = () => echoes([text(size)]);
  checks[`binary of ${size} bytes`] = () => echoes([randomBytes(size)]);
}

checks["without an offer of compression"] = () =>
  echoes([text(5000), randomBytes(5000)], { perMessageDeflate: false });

checks["two-byte, three-byte and four-byte characters"] = () => echoes(["é", "€", "👋🏽", "\0"]);

checks["fragments are joined"] = () =>
  use(async (ws, next) => {
    for (const [i, part] of ["one ", "two ", "", "three"].entries()) {
      ws.send(part, { fin: i === 3 });
    }
    equal(await next(), "one two three");
  });

checks["a character split over fragments"] = () =>
  use(async (ws, next) => {
    const bytes = Buffer.from("👋");
    for (let i = 0; i < 4; i++) {
      ws.send(bytes.subarray(i, i + 1), { binary: false, fin: i === 3, compress: false });
    }
    equal(await next(), "👋");
  });

checks["a ping is answered with its payload"] = () =>
  use(async (ws) => {
    for (const payload of [Buffer.alloc(0), Buffer.from("hello"), randomBytes(125)]) {
      const payloadBack = pong(ws);
      ws.ping(payload);
      equal(await payloadBack, payload);
    }
  });

checks["a ping between fragments is answered before the message ends"] = () =>
  use(async (ws, next) => {
    const payloadBack = pong(ws);
    ws.send("before ", { fin: false });
    ws.ping("now");
    equal(await payloadBack, Buffer.from("now"));
    ws.send("after");
    equal(await next(), "before after");
  });

checks["an unasked pong is not answered"] = () =>
  use(async (ws, next) => {
    ws.pong("nobody asked");
    ws.send("still here");
    equal(await next(), "still here");
  });

for (const code of [1000, 1001, 1012, 1013, 1014, 3000, 4999]) {
  checks[`close ${code} is echoed`] = () => echoesClose(code);
}

checks["close without a code is answered"] = () => closes(1000, (ws) => ws.close());

checks["a close after messages comes after their echoes"] = () =>
  closes(1000, async (ws, next) => {
    for (let i = 0; i < 10; i++) ws.send(`${i}`);
    ws.close(1000);
    for (let i = 0; i < 10; i++) equal(await next(), `${i}`);
  });

checks["an unmasked frame is refused with 1002"] = () =>
  closes(1002, (ws) => ws.send("bare", { mask: false, compress: false }));

checks["text that is not UTF-8 is refused with 1007"] = () =>
  closes(1007, (ws) => ws.send(Buffer.from([0x66, 0xff]), { binary: false, compress: false }));

checks["3000 pipelined messages keep their order"] = () => {
  const message = (_, i) => (i % 2 ? `${i} ${text(i % 300)}` : randomBytes(i % 300));
  return echoes(Array.from({ length: 3000 }, message));
};

checks["50 connections at once"] = () =>
  Promise.all(
    Array.from({ length: 50 }, (_, i) => echoes([`connection ${i}`, randomBytes(1000 + i), "end"])),
  );

function text(size) {
  return Array.from({ length: size }, (_, i) => String.fromCharCode(32 + ((i * 7) % 90))).join("");
}

// Opens a connection, runs `body(ws, next)` and closes it; `next()` is the next message.
async function use(body, options) {
  const ws = connect(options);
  const messages = [];
  const waiting = [];

  ws.on("message", (data, isBinary) => {
    const message = isBinary ? data : data.toString();
    if (waiting.length > 0) waiting.shift().resolve(message);
    else messages.push(message);
  });

  const next = () =>
    new Promise((resolve, reject) => {
      if (messages.length > 0) resolve(messages.shift());
      else waiting.push({ resolve, reject });
    });

  const closed = new Promise((resolve) => {
    ws.on("close", (code, reason) => {
      const error = new Error(`the connection closed with ${code} ${reason}`);
      for (const { reject } of waiting.splice(0)) reject(error);
      resolve({ code, reason: reason.toString() });
    });
  });

  await once(ws, "open");
  // From here on an error is followed by "close", which tells more.
  ws.on("error", () => {});

  try {
    return await body(ws, next, closed);
  } finally {
    ws.close();
    await closed;
  }
}

function pong(ws) {
  return new Promise((resolve, reject) => {
    ws.once("pong", resolve);
    ws.once("close", (code) => reject(new Error(`closed with ${code} instead of a pong`)));
  });
}

function echoes(sent, options) {
  return use(async (ws, next) => {
    for (const message of sent) ws.send(message);
    for (const message of sent) equal(await next(), message);
  }, options);
}

function closes(expected, body) {
  return use(async (ws, next, closed) => {
    await body(ws, next);
    const { code } = await closed;
    if (code !== expected) throw new Error(`closed with ${code} instead of ${expected}`);
  });
}

// A server may echo the reason with the code, and need not.
function echoesClose(code) {
  return use(async (ws, _next, closed) => {
    ws.close(code, "bye");
    const answer = await closed;
    if (answer.code !== code || !["", "bye"].includes(answer.reason)) {
      throw new Error(`answered with ${answer.code} ${JSON.stringify(answer.reason)}`);
    }
  });
}

function equal(seen, expected) {
  const same = Buffer.isBuffer(expected)
    ? Buffer.isBuffer(seen) && seen.equals(expected)
    : seen === expected;
  if (!same) throw new Error(`got ${brief(seen)} instead of ${brief(expected)}`);
}

function brief(message) {
  const kind = Buffer.isBuffer(message) ? "binary" : "text";
  const start = Buffer.isBuffer(message) ? message.toString("hex", 0, 20) : message.slice(0, 40);
  return `${kind} of ${message.length} (${JSON.stringify(start)})`;
}

const passed = await run(checks, CHECK_MS);
// Connections of failed checks would keep the script running.
process.exit(passed ? 0 : 1);
