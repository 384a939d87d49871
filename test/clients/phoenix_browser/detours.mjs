// Ways to a page that are not the straight one: a proxy that knows no WebSockets, and the browser's own memory
// of pages.

import { createServer, request } from "node:http";
import { join, push } from "./channels.mjs";
import { equal } from "./until.mjs";

export function fallback(cleo) {
  return {
    "a page that gets no WebSocket polls": async () => {
      cleo.origin = await withoutUpgrades(new URL(cleo.origin));
      await cleo.logIn();
      await cleo.isLive();
      equal(await cleo.page.evaluate(() => window.live.socket.transport.name), "LongPoll");
      await cleo.click("add");
      await cleo.shows("count", "1");
    },

    "so do its channels": async () => {
      const [status, { transport }] = await join(cleo, "room:fallback", {});
      equal([status, transport], ["ok", "longpoll"]);
      equal(await push(cleo, "echo", { text: "polled" }), ["ok", { text: "polled" }]);
      await cleo.page.close();
    },
  };
}

// Hands requests on as many proxies do: `upgrade` is a hop-by-hop header, and ends here (RFC 9110 §7.6.1).
async function withoutUpgrades({ hostname, port }) {
  const proxy = createServer((asked, answer) => {
    const { connection, upgrade, ...headers } = asked.headers;
    const options = { hostname, port, path: asked.url, method: asked.method, headers };
    const onward = request(options, (response) => {
      answer.writeHead(response.statusCode, response.headers);
      response.pipe(answer);
    });
    onward.on("error", () => answer.destroy());
    answer.on("close", () => onward.destroy());
    asked.pipe(onward);
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return `http://127.0.0.1:${proxy.address().port}`;
}

export function backAndForth(dora) {
  return {
    "channels go on in a page that the browser has kept": async () => {
      await dora.visit("/plain");
      equal((await join(dora, "room:kept", {}))[0], "ok");
      const mark = await dora.mark();
      await dora.click("leave");
      await dora.isAt("/protocol");
      await dora.back();
      await dora.isAt("/plain");
      equal(await dora.mark(), mark);
      equal(await push(dora, "echo", { text: "back" }), ["ok", { text: "back" }]);
    },

    "a LiveView that one comes back to is live": async () => {
      await dora.logIn();
      await dora.isLive();
      const mount = await dora.text("mount");
      await dora.click("leave");
      await dora.isAt("/plain");
      await dora.back();
      await dora.isAt("/");
      await dora.isLive(mount);
      await dora.click("add");
      await dora.shows("count", "1");
    },
  };
}
