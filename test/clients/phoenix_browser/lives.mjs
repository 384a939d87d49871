// The tabs that close, the app that ends and begins again, and what it has logged of all that.

import { randomBytes } from "node:crypto";
import { push } from "./channels.mjs";
import { equal, until } from "./until.mjs";

// As long as a busy machine takes to start the app again.
const RESTART_MS = 120_000;

const LARGE_BYTES = 4_000_000;

// A log entry: its first line, whose level is in brackets, and those that belong to it.
const ENTRY = /^\d\d:\d\d:\d\d\.\d+ .*\[(\w+)\].*(\n(?!\d\d:\d\d:\d\d\.\d+ ).*)*/gm;
const QUIET = ["debug", "info", "notice"];

export function leave(app, adas, bobs, emil) {
  const onlyAdas = adas.map(({ name }) => name).join(" ");

  return {
    "those that close are no longer present, and leave no word in the log": async () => {
      const before = app.log().length;
      for (const bob of bobs) await bob.page.close();
      for (const ada of adas) await ada.shows("present", onlyAdas);
      equal(app.log().slice(before), "");
    },

    "neither is one that closes in the middle of an upload": async () => {
      await emil.logIn();
      await emil.isLive();
      for (const ada of adas) await ada.shows("present", `${onlyAdas} ${emil.name}`);
      const before = app.log().length;
      await emil.choose(randomBytes(LARGE_BYTES));
      await emil.click("send");
      await until(() => app.log().slice(before).includes("JOINED lvu:"), "the upload to begin");
      await emil.page.close();
      for (const ada of adas) await ada.shows("present", onlyAdas);
    },
  };
}

// Each page has a draft and a patched address, which are to come back; its counter is the server's.
export function restart(app, ways, signal, status, close) {
  const adas = ways.map(({ ada }) => ada);
  const onWebSockets = ways.filter(({ transport }) => transport === "websocket").map(({ ada }) => ada);
  const before = new Map();
  const draft = (ada) => `draft of ${ada.name} before ${signal}`;

  return {
    "all have something to lose": async () => {
      for (const ada of adas) {
        await ada.page.locator("#input").fill(draft(ada));
        await ada.shows("text", draft(ada));
        await ada.click("patch");
        await ada.click("add");
        await ada.showsWhat("count", "a count", (count) => Number(count) > 0);
        await ada.page.evaluate(() => (window.closes.length = 0));
        const [mark, mount, page] = [await ada.mark(), await ada.text("mount"), await ada.text("page")];
        before.set(ada, { mark, mount, page });
      }
    },

    [`the app ends with ${status}`]: async () => equal(await app.stop(signal), status),

    [`WebSockets are closed with ${close.code}`]: async () => {
      for (const ada of onWebSockets) {
        await until(async () => (await ada.closes()).length >= 2, `${ada.name}'s WebSockets to close`);
        // More where one has come back before the end.
        for (const seen of await ada.closes()) equal(seen, close);
      }
    },

    "what is pushed meanwhile is not lost": async () => {
      for (const ada of adas) {
        await ada.page.evaluate((ms) => {
          window.meanwhile = window.push("echo", { text: "meanwhile" }, ms);
        }, RESTART_MS);
      }
      await app.start();
      for (const ada of adas) {
        equal(await ada.page.evaluate(() => window.meanwhile), ["ok", { text: "meanwhile" }]);
      }
    },

    "all are live again without a reload": async () => {
      for (const ada of adas) {
        const { mark, mount } = before.get(ada);
        await ada.isLive(mount);
        equal(await ada.mark(), mark);
      }
    },

    "session, address and draft have come back": async () => {
      for (const ada of adas) {
        await ada.shows("name", ada.name);
        await ada.shows("page", before.get(ada).page);
        await ada.shows("text", draft(ada));
        await ada.shows("count", "0");
      }
    },

    "all works as before": async () => {
      for (const ada of adas) {
        await ada.click("add");
        await ada.shows("count", "1");
        await ada.click("tell");
        for (const other of adas) await other.shows("told", `by ${ada.name}`);
        equal(await push(ada, "echo", { text: "after" }), ["ok", { text: "after" }]);
      }
    },
  };
}

export function judge(app, people, crashes) {
  return {
    "no page has raised": async () => equal(people.flatMap(({ complaints }) => complaints), []),

    "the app ends in order": async () => equal(await app.stop("SIGTERM"), 0),

    "its log has no warning and no error but the deliberate crashes": async () => {
      const entries = [...app.log().matchAll(ENTRY)];
      const loud = entries.filter(([, level]) => !QUIET.includes(level)).map(([entry]) => entry);
      equal(loud.filter((entry) => !entry.includes("the deliberate crash of")), []);
      equal(loud.length, crashes);
    },
  };
}
