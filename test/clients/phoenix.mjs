// node phoenix.mjs http|https [FOLDER]
//
// Runs examples/phoenix, and two people use it in Chromium: Ada at a desk, Bob with a phone. One line per
// step; exits with 1 and a sentence when what they see is not what they should see. FOLDER is for
// screenshots. CHROMIUM names another browser than /usr/bin/chromium.

import { spawn } from "node:child_process";
import { createHash, randomBytes } from "node:crypto";
import { once } from "node:events";
import { join } from "node:path";
import { fileURLToPath } from "node:url";
import { launch, walk } from "./browser.mjs";

const [scheme, folder] = process.argv.slice(2);
const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const HARMLESS = "<img src=x onerror=alert(1)> & <b>bold</b>";
const STEP_MS = 30_000;
// It may have to be compiled first.
const START_MS = 900_000;

const complaints = [];
// While there is no server, a browser says so in its console.
let mayBeLost = false;

async function start(port) {
  const environment = { APP: "phoenix", SCHEME: scheme, PORT: String(port), IP: "127.0.0.1" };
  const program = spawn(join(ROOT, "bin/run"), {
    env: { ...process.env, ...environment },
    stdio: ["ignore", "pipe", "pipe"],
  });
  const server = { program, log: "", ended: once(program, "exit") };
  const started = new Promise((resolve, reject) => {
    const read = (data) => {
      server.log += data;
      const found = / at (127\.0\.0\.1:\d+)/.exec(server.log);
      if (found) resolve(`${scheme}://${found[1]}`);
    };
    program.stdout.setEncoding("utf8").on("data", read);
    program.stderr.setEncoding("utf8").on("data", read);
    program.on("exit", (status) => reject(new Error(`it ended with ${status}:\n${server.log}`)));
  });
  server.url = await limited(started, START_MS, "it does not start");
  return server;
}

async function stop(server, signal) {
  server.program.kill(signal);
  const [status, killer] = await limited(server.ended, STEP_MS, `${signal} does not end it`);
  if (status !== 0) throw new Error(`${signal} ended it with ${status ?? killer}:\n${server.log}`);
}

function limited(promise, ms, sentence) {
  let timer;
  const limit = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(sentence)), ms);
  });
  return Promise.race([promise, limit]).finally(() => clearTimeout(timer));
}

async function arrive(name, options) {
  // Who has signed the server's certificate is not what is judged.
  const context = await browser.newContext({ ...options, ignoreHTTPSErrors: true });
  context.setDefaultTimeout(STEP_MS);
  const page = await context.newPage();
  page.on("pageerror", (error) => complaints.push(`${name}'s page raised ${error.message}`));
  page.on("console", (message) => {
    if (message.type() === "error" && !mayBeLost) {
      complaints.push(`${name}'s console says ${message.text()}`);
    }
  });

  page.handshakes = [];
  const devtools = await context.newCDPSession(page);
  await devtools.send("Network.enable");
  devtools.on("Network.webSocketHandshakeResponseReceived", ({ response }) =>
    page.handshakes.push(response.status),
  );

  await page.goto(server.url);
  await connected(page);
  await page.getByLabel("Your name").fill(name);
  await page.getByRole("button", { name: "Save" }).click();
  await person(page, name).getByText("you").waitFor();
  return page;
}

// Marks the page: a reload would lose it.
const mark = (page) => page.evaluate(() => (window.marked = true));

async function stillMarked(page) {
  if (!(await page.evaluate(() => window.marked))) throw new Error("the page was loaded again");
}

async function equal(locator, expected) {
  const seen = (await locator.innerText()).trim();
  if (seen !== expected) throw new Error(`got ${seen} instead of ${expected}`);
}

async function say(page, text) {
  await page.getByLabel("Message", { exact: true }).fill(text);
  await page.keyboard.press("Enter");
}

async function choose(page, name, buffer) {
  const mimeType = "application/octet-stream";
  await page.getByLabel("Choose a file").setInputFiles({ name, mimeType, buffer });
}

async function screenshot(page, name) {
  if (folder) await page.screenshot({ path: join(folder, name), animations: "disabled" });
}

const connected = (page) => page.locator("[data-phx-main].phx-connected").waitFor();
const online = (page) => page.getByRole("status").getByText("Online").waitFor();
const visit = (page, name) => page.getByRole("navigation").getByRole("link", { name }).click();
const person = (page, name) => page.locator("#people li", { hasText: name });
const counted = (page, value) => page.locator("#counter").getByText(value, { exact: true }).waitFor();
const message = (page, text) => page.locator("#log .text").getByText(text, { exact: true }).waitFor();

let browser, server, ada, bob;
// Of the server before the restart.
let log;

const steps = {
  "the app starts": async () => {
    server = await start(0);
  },

  "Ada and Bob give their names and see each other": async () => {
    ada = await arrive("Ada", { viewport: { width: 1280, height: 800 }, colorScheme: "dark" });
    const phone = { viewport: { width: 390, height: 844 }, deviceScaleFactor: 2 };
    bob = await arrive("Bob", { ...phone, isMobile: true, hasTouch: true });
    await person(ada, "Bob").waitFor();
    await person(bob, "Ada").waitFor();
    await equal(ada.locator("#count"), "2");
  },

  "a page fits on a phone": async () => {
    const [width, shown] = await bob.evaluate(() => [document.body.scrollWidth, innerWidth]);
    if (width > shown) throw new Error(`it is ${width} wide, of which ${shown} are shown`);
  },

  "both count with one counter": async () => {
    for (let i = 0; i < 3; i++) await ada.getByRole("button", { name: "One more" }).click();
    await counted(bob, "3");
    await bob.getByRole("button", { name: "One less" }).tap();
    await counted(ada, "2");
  },

  "who opens a second page is still one person": async () => {
    const second = await ada.context().newPage();
    await second.goto(server.url);
    await person(bob, "Ada").getByText("2 pages").waitFor();
    await second.close();
    await person(bob, "Ada").getByText("2 pages").waitFor({ state: "detached" });
    await equal(bob.locator("#count"), "2");
  },

  "a LiveView that crashes comes back, and the counter with it": async () => {
    await mark(ada);
    const process = ada.locator("#process");
    const crashed = await process.innerText();
    await ada.getByRole("button", { name: "Crash it" }).click();
    await process.filter({ hasNotText: crashed }).waitFor();
    await connected(ada);
    await counted(ada, "2");
    await stillMarked(ada);
  },

  "the next LiveView is there without a new page": async () => {
    await visit(ada, "Upload");
    await ada.getByRole("heading", { name: "Upload a file" }).waitFor();
    await stillMarked(ada);
  },

  "2 MB arrive as they were sent": async () => {
    const data = randomBytes(2_000_000);
    await choose(ada, "noise.bin", data);
    await ada.locator(".file .sha256").waitFor();
    await equal(ada.locator(".file .name"), "noise.bin");
    await equal(ada.locator(".file .size"), "2,000,000 bytes");
    const sha256 = createHash("sha256").update(data).digest("hex");
    await equal(ada.locator(".file .sha256"), sha256);
  },

  "a file that is too large is refused in words": async () => {
    await choose(ada, "large.bin", Buffer.alloc(10_000_001));
    await ada.getByRole("alert").getByText("This file is larger than 10 MB.").waitFor();
    await ada.getByRole("button", { name: "Cancel" }).click();
    await ada.getByRole("alert").waitFor({ state: "detached" });
  },

  "what is said in the room is heard in the lobby": async () => {
    await visit(ada, "Room");
    await online(ada);
    await person(ada, "Ada").getByText("you").waitFor();
    await person(ada, "Bob").waitFor();
    await say(ada, "Good morning");
    await message(ada, "Good morning");
    await bob.locator("#said").getByText("Good morning", { exact: true }).waitFor();
    await screenshot(bob, "phone.png");
  },

  "in the room both talk": async () => {
    await visit(bob, "Room");
    await online(bob);
    await say(bob, "Hi Ada! 👋🏽 Grüße");
    await message(ada, "Hi Ada! 👋🏽 Grüße");
    await say(ada, "Hello Bob");
    await message(bob, "Hello Bob");
    await screenshot(ada, "desktop.png");
  },

  "HTML is shown as it was written": async () => {
    await say(ada, HARMLESS);
    await message(bob, HARMLESS);
    if (await bob.locator("#log img, #log b b").count()) throw new Error("it became elements");
  },

  "a message that is too long is refused in words": async () => {
    await bob.locator("#text").evaluate((field) => field.removeAttribute("maxlength"));
    await say(bob, "x".repeat(501));
    await bob.getByRole("status").getByText("A message has 1 to 500 characters.").waitFor();
    await say(bob, "Shorter");
    await message(ada, "Shorter");
    await online(bob);
  },

  "the WebSockets came over HTTP/2 where there is TLS": async () => {
    const expected = scheme === "https" ? 200 : 101;
    for (const page of [ada, bob]) {
      if (page.handshakes.length === 0 || page.handshakes.some((status) => status !== expected)) {
        throw new Error(`the handshakes were answered with ${page.handshakes.join(", ")}`);
      }
    }
  },

  "SIGTERM ends the app in order, and the pages say so": async () => {
    await visit(ada, "Lobby");
    await connected(ada);
    await Promise.all([mark(ada), mark(bob)]);
    mayBeLost = true;
    await stop(server, "SIGTERM");
    await ada.getByRole("status").getByText("The connection was lost. Trying again…").waitFor();
    await bob.getByRole("status").getByText("Reconnecting…").waitFor();
  },

  "after a restart the pages come back by themselves": async () => {
    log = server.log;
    server = await start(new URL(server.url).port);
    await counted(ada, "0");
    await online(bob);
    await person(ada, "Bob").waitFor();
    await person(bob, "Ada").waitFor();
    await ada.getByText("The connection was lost.").waitFor({ state: "hidden" });
    await say(bob, "There you are");
    await ada.locator("#said").getByText("There you are").waitFor();
    await Promise.all([stillMarked(ada), stillMarked(bob)]);
  },

  "the browser has nothing to complain about": async () => {
    if (complaints.length > 0) throw new Error(complaints.join("; "));
  },

  "SIGINT ends the app in order": async () => {
    await stop(server, "SIGINT");
  },

  "no error was logged but the one that was asked for": async () => {
    const errors = (log + server.log).match(/\[error\].*(\n.*)?/g) ?? [];
    if (errors.length !== 1 || !errors[0].includes("The visitor has asked for this.")) {
      throw new Error(errors.join("; "));
    }
  },
};

try {
  browser = await launch();
  await walk(steps, complaints);
} finally {
  await browser?.close();
  server?.program.kill("SIGTERM");
}
