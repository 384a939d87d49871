import { equal, until } from "./until.mjs";

const BINARY_BYTES = 100_000;
const TEXT_BYTES = 500_000;
const PUSHES = 200;

// What Ada and Bob say to each other in a room.
export function channels({ ada, bob, transport, protocol }) {
  return {
    "a room is joined": async () => {
      for (const person of [ada, bob]) {
        const [status, reply] = await join(person, `room:${transport}-${protocol}`, { from: person.name });
        const { port, ...rest } = reply;
        equal([status, rest], ["ok", { you: person.name, transport, params: { from: person.name } }]);
        equal(typeof port, "number");
      }
    },

    ...(transport === "websocket" && {
      "permessage-deflate is agreed on": async () => {
        const extensions = await ada.page.evaluate(() => window.socket.conn.extensions);
        equal(extensions.split(";")[0], "permessage-deflate");
      },
    }),

    "a join that is refused tells why": async () => {
      const outcome = await ada.page.evaluate(() => {
        const room = window.socket.channel("room:closed");
        return new Promise((resolve) => room.join().receive("error", resolve)).finally(() => room.leave());
      });
      equal(outcome, { reason: "closed" });
    },

    "a push is replied to": async () => {
      equal(await push(ada, "echo", { text: "Grüße 👋🏽" }), ["ok", { text: "Grüße 👋🏽" }]);
      equal(await push(ada, "refuse", {}), ["error", { reason: "refused" }]);
    },

    "pushes keep their order": async () => {
      const replies = await ada.page.evaluate(async (count) => {
        const replies = [];
        const pushes = Array.from({ length: count }, (_, i) =>
          window.push("echo", { i }).then(([, reply]) => replies.push(reply.i)),
        );
        await Promise.all(pushes);
        return replies;
      }, PUSHES);
      equal(replies, Array.from({ length: PUSHES }, (_, i) => i));
    },

    "broadcast reaches both": async () => {
      equal(await push(ada, "to_all", { text: "all" }), ["ok", {}]);
      for (const person of [ada, bob]) await hears(person, [["said", { text: "all" }]]);
    },

    "broadcast_from reaches the others": async () => {
      equal(await push(ada, "to_others", { text: "others" }), ["ok", {}]);
      await hears(bob, [["said", { text: "others" }]]);
      // What comes after it has come; so it will not.
      equal(await push(bob, "to_all", { text: "after" }), ["ok", {}]);
      for (const person of [ada, bob]) await hears(person, [["said", { text: "after" }]]);
    },

    "an intercepted event is each one's own": async () => {
      await push(bob, "secret", { text: "a word" });
      for (const person of [ada, bob]) {
        await hears(person, [["secret", { text: `a word for ${person.name}` }]]);
      }
    },

    "100 kB of bytes arrive": async () => {
      const [outcome, digest] = await ada.page.evaluate(async (size) => {
        const bytes = window.bytes(size);
        return [await window.push("digest", bytes), await window.digest(bytes)];
      }, BINARY_BYTES);
      equal(outcome, ["ok", { size: BINARY_BYTES, digest }]);
    },

    // Phoenix's long poll has no bytes on the way down: it fails to encode them as JSON.
    ...(transport === "websocket" && {
      "100 kB of bytes come back, and go on to others": async () => {
        const [echo, digest] = await ada.page.evaluate(async (size) => {
          const bytes = window.bytes(size);
          await window.push("to_others", bytes);
          return [await window.push("echo", bytes), await window.digest(bytes)];
        }, BINARY_BYTES);
        equal(echo, ["ok", digest]);
        await hears(bob, [["said", digest]]);
      },
    }),

    "500 kB of text arrive, and come back": async () => {
      const [outcome, isSame, digest] = await ada.page.evaluate(async (size) => {
        const text = "é".repeat(size / 2);
        const outcome = await window.push("digest", { text });
        const [, echo] = await window.push("echo", { text });
        return [outcome, echo.text === text, await window.digest(text)];
      }, TEXT_BYTES);
      equal(outcome, ["ok", { size: TEXT_BYTES, digest }]);
      equal(isSame, true);
    },

    "a channel that crashes is joined again": async () => {
      const mark = await ada.mark();
      const joins = await ada.page.evaluate(() => {
        window.joins = 0;
        window.room.joinPush.receive("ok", () => window.joins++);
        // Who has joined is told at once.
        const before = window.joins;
        window.room.push("crash", {});
        return before;
      });
      await until(() => ada.page.evaluate((joins) => window.joins > joins, joins), "another join");
      equal(await push(ada, "echo", { text: "again" }), ["ok", { text: "again" }]);
      equal(await ada.mark(), mark);
      equal(await ada.closes(), []);
    },
  };
}

export function join(person, topic, params) {
  const join = ([name, topic, params]) => window.join(name, topic, params);
  return person.page.evaluate(join, [person.name, topic, params]);
}

export function push(person, event, payload) {
  return person.page.evaluate(([event, payload]) => window.push(event, payload), [event, payload]);
}

// Until this has been said since the last time.
async function hears(person, expected) {
  const heard = () => person.page.evaluate(() => window.heard);
  await until(async () => (await heard()).length >= expected.length, `${person.name} to hear something`);
  equal(await person.page.evaluate(() => window.heard.splice(0)), expected);
}
