// node chromium.mjs URL
//
// Checks an echo endpoint with Chromium, from a page of the same server: one line per check, exit
// code 1 when one failed. Chromium offers `permessage-deflate; client_max_window_bits`, always; the
// endpoint must accept it. CHROMIUM names another browser than /usr/bin/chromium.

import { launch } from "./browser.mjs";
import { run } from "./checks.mjs";

const [url] = process.argv.slice(2);
const CHECK_MS = 30_000;
const SIZES = [0, 1, 125, 126, 65535, 65536, 1 << 20];

const browser = await launch();
// Who has signed the server's certificate is not what is judged.
const page = await browser.newPage({ ignoreHTTPSErrors: true });

const checks = {
  "a page of the server is shown": async () => {
    const response = await page.goto(new URL("/health", url.replace(/^ws/, "http")).href);
    equal(response.status(), 200);
  },
  "permessage-deflate is agreed on": async () => {
    equal((await echo([])).extensions.split(";")[0], "permessage-deflate");
  },
  "a close is echoed": async () => {
    const { code, wasClean } = await echo([]);
    equal({ code, wasClean }, { code: 4321, wasClean: true });
  },
};
for (const size of SIZES) {
  checks[`text of ${size} bytes`] = async () => equal((await echo([["text", size]])).wrong, []);
  checks[`binary of ${size} bytes`] = async () => equal((await echo([["binary", size]])).wrong, []);
}
checks["1000 messages on one connection"] = async () => {
  const messages = Array.from({ length: 1000 }, (_, i) => [i % 2 ? "text" : "binary", i]);
  equal((await echo(messages)).wrong, []);
};

// Sends all messages, given as kinds and sizes, and tells which were echoed wrongly and how the
// connection was agreed on and ended.
function echo(messages) {
  return page.evaluate(
    async ([url, messages]) => {
      const text = (size) => "é".repeat(size / 2) + "x".repeat(size % 2);
      const binary = (size) => Uint8Array.from({ length: size }, (_, i) => i * 7 + (i >> 8));
      const make = ([kind, size]) => (kind === "text" ? text(size) : binary(size));
      const same = (message, data) =>
        typeof message === "string"
          ? message === data
          : data instanceof ArrayBuffer &&
            data.byteLength === message.length &&
            new Uint8Array(data).every((byte, i) => byte === message[i]);

      const ws = new WebSocket(url);
      ws.binaryType = "arraybuffer";
      const received = [];
      const closed = new Promise((resolve) => (ws.onclose = resolve));
      await new Promise((resolve, reject) => {
        ws.onopen = resolve;
        ws.onerror = () => reject(new Error("no connection"));
      });
      for (const message of messages) ws.send(make(message));
      await new Promise((resolve, reject) => {
        ws.onerror = () => reject(new Error("the connection failed"));
        ws.onmessage = ({ data }) => {
          if (received.push(data) === messages.length) resolve();
        };
        if (messages.length === 0) resolve();
      });
      const { extensions } = ws;
      ws.close(4321, "bye");
      const { code, wasClean } = await closed;
      const wrong = messages.filter((message, i) => !same(make(message), received[i]));
      return { extensions, code, wasClean, wrong };
    },
    [url, messages],
  );
}

function equal(seen, expected) {
  const [got, wanted] = [JSON.stringify(seen), JSON.stringify(expected)];
  if (got !== wanted) throw new Error(`got ${got} instead of ${wanted}`);
}

const passed = await run(checks, CHECK_MS);
await browser.close();
process.exit(passed ? 0 : 1);
