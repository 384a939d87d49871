// node chat.mjs URL [SCREENSHOT.png]
//
// Two people use the chat of examples/chat in Chromium. Exits with 1 and a sentence when what they
// see is not what they should see. CHROMIUM names another browser than /usr/bin/chromium.

import { launch, walk } from "./browser.mjs";

const [url, screenshot] = process.argv.slice(2);
const HARMLESS = "<img src=x onerror=alert(1)> & <b>bold</b>";

const browser = await launch();

const complaints = [];

async function open(name) {
  const context = await browser.newContext({ viewport: { width: 1100, height: 720 } });
  context.setDefaultTimeout(10_000);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${name}'s page raised ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error") complaints.push(`${name}'s console says ${message.text()}`);
  });

  // The page keeps its socket to itself; this is how the script cuts a connection later.
  await page.addInitScript(() => {
    const Real = window.WebSocket;
    window.sockets = [];
    window.WebSocket = class extends Real {
      constructor(...args) {
        super(...args);
        window.sockets.push(this);
      }
    };
  });

  await page.goto(url);
  return page;
}

async function join(name) {
  const page = await open(name);
  await page.getByLabel("Name").fill(name);
  await page.getByRole("button", { name: "Join" }).click();
  await online(page);
  return page;
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

const online = (page) => page.getByRole("status").getByText("Online").waitFor();
const member = (page, name) => page.locator("#members").getByText(name, { exact: true });
const message = (page, text) => page.locator("#log .text").getByText(text, { exact: true });
const notice = (page, text) => page.locator("#log .notice").getByText(text, { exact: true });

let ada, bob;

const steps = {
  "Ada joins and is alone": async () => {
    ada = await join("Ada");
    await member(ada, "Ada").waitFor();
    await ada.locator("#count").getByText("1", { exact: true }).waitFor();
  },

  "Bob joins and each sees the other": async () => {
    bob = await join("Bob");
    await member(bob, "Ada").waitFor();
    await member(ada, "Bob").waitFor();
    await notice(ada, "Bob joined").waitFor();
  },

  "each sees what the other says": async () => {
    await say(ada, "Hello Bob");
    await message(bob, "Hello Bob").waitFor();
    await say(bob, "Hi Ada! 👋🏽 Grüße");
    await message(ada, "Hi Ada! 👋🏽 Grüße").waitFor();
  },

  "HTML is shown as it was written": async () => {
    await say(ada, HARMLESS);
    await message(bob, HARMLESS).waitFor();
    if (await bob.locator("#log img, #log b b").count()) throw new Error("it became elements");
  },

  "many messages arrive in order": async () => {
    const said = Array.from({ length: 20 }, (_, i) => `number ${i}`);
    for (const text of said) await say(bob, text);
    await message(ada, said.at(-1)).waitFor();
    const seen = await ada.locator("#log .text").allTextContents();
    const last = seen.slice(-said.length);
    if (last.join() !== said.join()) throw new Error(`Ada saw ${last.join(", ")}`);
  },

  "what makes no sense is refused in words and ends nothing": async () => {
    const refusals = [
      ["{not json", "That was not JSON."],
      ["[1, 2]", "Nobody understood that."],
      ['{"type": "join", "name": "Eve"}', "Nobody understood that."],
      [JSON.stringify({ type: "say", text: "x".repeat(2001) }), "A message has 1 to 2000 characters."],
    ];
    for (const [data, refusal] of refusals) {
      await ada.evaluate((data) => window.sockets.at(-1).send(data), data);
      await notice(ada, refusal).last().waitFor();
    }
    await say(ada, "Still here");
    await message(bob, "Still here").waitFor();
  },

  "a page that is reloaded comes back": async () => {
    await bob.reload();
    await online(bob);
    await member(bob, "Ada").waitFor();
    await notice(ada, "Bob left").waitFor();
    await say(ada, "Welcome back");
    await message(bob, "Welcome back").waitFor();
  },

  "a page whose connection is cut comes back by itself": async () => {
    await ada.evaluate(() => window.sockets.at(-1).close());
    await notice(ada, "The connection was lost.").waitFor();
    await notice(ada, "Connected again.").waitFor();
    await member(ada, "Bob").waitFor();
    await say(bob, "There you are");
    await message(ada, "There you are").waitFor();
  },

  "someone who leaves is no longer listed": async () => {
    if (screenshot) await ada.screenshot({ path: screenshot, animations: "disabled" });
    await bob.close();
    await member(ada, "Bob").waitFor({ state: "detached" });
  },

  "the browser has nothing to complain about": async () => {
    if (complaints.length > 0) throw new Error(complaints.join("; "));
  },
};

try {
  await walk(steps, complaints);
} finally {
  await browser.close();
}
