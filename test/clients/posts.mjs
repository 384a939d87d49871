// node posts.mjs URL COUNT [resets]
//
// Sends so many POSTs whose bodies the app may ignore, by Node's keep-alive agent, and counts what comes of
// them: exit code 1 unless each has its own answer with 200.
// With resets, a client may find its connection reset.

import http from "node:http";

const [url, count, resets] = process.argv.slice(2);
const SOCKETS = 8;
const SIZES = [0, 1, 100, 4_000, 16_000, 33_000, 40_000, 65_536, 100_000, 300_000];
// Past what the server reads of a body that is ignored.
const LARGE = 1_500_000;
const KINDS = ["whole", "chunks", "some", "all"];
const agent = new http.Agent({ keepAlive: true, maxSockets: SOCKETS });

function post(n) {
  const size = n % 100 === 99 ? LARGE : SIZES[n % SIZES.length];
  const path = `/${KINDS[n % KINDS.length]}/${n}`;
  return new Promise((resolve) => {
    const request = http.request(new URL(path, url), { agent, method: "POST" }, (response) => {
      let body = "";
      response.setEncoding("utf8");
      response.on("data", (text) => (body += text));
      response.on("error", (error) => resolve(error.code ?? "error"));
      response.on("end", () => resolve(body === path ? response.statusCode : "another's answer"));
    });
    // After the response it is of no concern: the server may end a connection that it has said it would.
    request.on("error", (error) => resolve(error.code ?? "error"));
    send(request, n, Buffer.alloc(size, "x"));
  });
}

// With a length in one write or two, or in chunks.
function send(request, n, body) {
  const half = body.length >> 1;
  if (n % 3 === 0) request.end(body);
  else {
    if (n % 3 === 1) request.setHeader("content-length", body.length);
    request.write(body.subarray(0, half));
    setImmediate(() => request.end(body.subarray(half)));
  }
}

const results = {};
let next = 0;
async function worker() {
  while (next < Number(count)) {
    const result = await post(next++);
    results[result] = (results[result] ?? 0) + 1;
  }
}
await Promise.all(Array.from({ length: SOCKETS }, worker));
agent.destroy();

console.log(JSON.stringify(results));
const allowed = (results[200] ?? 0) + (resets ? (results.ECONNRESET ?? 0) : 0);
process.exit(allowed === Number(count) ? 0 : 1);
