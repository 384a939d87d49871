// Somebody with a browser of their own (a context: cookies and storage) and one page in it.

import { until } from "./until.mjs";

const WAIT_MS = 30_000;

// What a report tells of a console.
const LAST_WORDS = 3;
const WORD_LENGTH = 300;

export class Person {
  // What went wrong in the page.
  complaints = [];
  // What its console says; of lost connections it always does.
  said = [];

  // `transport` is one of those in browser.js.
  static async arrive(browser, name, origin, transport) {
    const context = await browser.newContext();
    context.setDefaultTimeout(WAIT_MS);
    const person = new Person(name, origin, await context.newPage());
    await person.page.addInitScript(watch, transport);
    return person;
  }

  constructor(name, origin, page) {
    Object.assign(this, { name, origin, page });
    page.on("pageerror", (error) => this.complaints.push(error.message));
    page.on("crash", () => this.complaints.push("the page crashed"));
    page.on("console", (message) => this.said.push(message.text()));
  }

  // The session keeps the name.
  logIn() {
    return this.visit(`/login/${this.name}`);
  }

  async visit(path) {
    await this.page.goto(this.origin + path);
  }

  click(id) {
    return this.page.locator(`#${id}`).click();
  }

  choose(buffer) {
    const file = { name: "file.bin", mimeType: "application/octet-stream", buffer };
    return this.page.locator("#upload input[type=file]").setInputFiles(file);
  }

  // The page may be gone before this is answered.
  async back() {
    await this.page.evaluate(() => history.back()).catch(() => {});
  }

  // Another one after a reload.
  mark() {
    return this.page.evaluate(() => window.mark);
  }

  // How those WebSockets of this page ended that had been open.
  closes() {
    return this.page.evaluate(() => window.closes);
  }

  text(id) {
    return this.page.evaluate((id) => document.getElementById(id)?.textContent ?? null, id);
  }

  async shows(id, text) {
    await this.showsWhat(id, `"${text}"`, (seen) => seen === text);
  }

  async showsWhat(id, what, isRight) {
    let seen;
    const look = async () => isRight((seen = await this.text(id)));
    await until(look, what).catch((error) => {
      throw new Error(`${this.name}'s page shows "${seen}" in #${id}: ${error.message}`);
    });
  }

  async isAt(path) {
    const look = () => this.page.evaluate(() => location.pathname).catch(() => undefined);
    await until(async () => (await look()) === path, `${this.name} to be at ${path}`);
  }

  // Until the LiveView runs on the server, in another mount than `before`.
  async isLive(before) {
    const isConnected = () => document.querySelector("[data-phx-main].phx-connected") !== null;
    await until(() => this.page.evaluate(isConnected), `${this.name}'s page to be live`);
    await this.showsWhat("mount", `another than ${before}`, (mount) => mount && mount !== before);
    await this.showsWhat("port", "the port of a connection", (port) => port);
  }

  // Lines, for when something was not as it should be.
  async report() {
    const look = () => ({
      url: location.href,
      text: document.body.innerText.replace(/\s+/g, " "),
      classes: document.querySelector("[data-phx-main]")?.className,
      closes: window.closes,
      heard: window.heard,
    });
    const seen = await this.page.evaluate(look).catch((error) => error.message.split("\n")[0]);
    return [
      `${this.name}'s page: ${JSON.stringify(seen)}`,
      ...this.complaints.map((text) => `${this.name}'s page raised: ${text}`),
      ...this.said.slice(-LAST_WORDS).map((text) => `${this.name}'s console: ${text.slice(0, WORD_LENGTH)}`),
    ];
  }
}

// Runs in each page before its own scripts.
function watch(transport) {
  window.transport = transport;
  window.mark = crypto.getRandomValues(new Uint32Array(2)).join("-");
  window.closes = [];

  const Real = window.WebSocket;
  window.WebSocket = class WebSocket extends Real {
    constructor(...args) {
      super(...args);
      let wasOpen = false;
      this.addEventListener("open", () => (wasOpen = true));
      this.addEventListener("close", ({ code, wasClean }) => {
        if (wasOpen) window.closes.push({ code, wasClean });
      });
    }
  };
}
