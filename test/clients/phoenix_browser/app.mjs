// The app of test/phoenix as a program of its own, which is stopped, killed, and started again on the same
// ports. All that it logs goes to one file.

import { spawn } from "node:child_process";
import { closeSync, openSync, readFileSync, writeFileSync } from "node:fs";
import http from "node:http";
import https from "node:https";
import net from "node:net";
import { until } from "./until.mjs";

// The kernel gives ports from 32768 on to whoever connects; one below is still free after a restart.
const PORTS = { from: 20_000, to: 32_000 };
const START_MS = 120_000;
const STOP_MS = 60_000;

export class App {
  #build;
  #environment;
  #log;
  #process;

  constructor(build, log, environment) {
    this.#build = build;
    this.#log = log;
    this.#environment = environment;
    writeFileSync(log, "");
    process.on("exit", () => this.#process?.kill("SIGKILL"));
  }

  async start() {
    this.port ??= await freePort();
    this.tlsPort ??= await freePort();
    const output = openSync(this.#log, "a");
    const code = ["-pa", `${this.#build}/lib/*/ebin`];
    const started = spawn("elixir", [...code, "--no-halt", "-e", "BrowserWeb.start()"], {
      env: {
        ...process.env,
        ...this.#environment,
        BROWSER_PORT: this.port,
        BROWSER_TLS_PORT: this.tlsPort,
      },
      stdio: ["ignore", output, output],
    });
    closeSync(output);
    this.#process = started;
    this.ended = new Promise((resolve) => {
      started.on("error", (error) => resolve(error.message));
      started.on("exit", (code, signal) => resolve(code ?? signal));
    });

    const died = this.ended.then((status) => {
      throw new Error(`the app ended with ${status} while it started`);
    });
    const serves = until(() => this.#serves(), "the app to serve", START_MS);
    await Promise.race([serves, died]);
    died.catch(() => {});
  }

  // Resolves to how the program ended: a status, or the name of a signal.
  async stop(signal) {
    this.#process.kill(signal);
    let status;
    this.ended.then((ended) => (status = ended));
    await until(() => status !== undefined, `the app to end after ${signal}`, STOP_MS);
    return status;
  }

  log() {
    return readFileSync(this.#log, "utf8");
  }

  async #serves() {
    const answers = [
      answer(http, `http://127.0.0.1:${this.port}/protocol`),
      answer(https, `https://127.0.0.1:${this.tlsPort}/protocol`),
    ];
    return (await Promise.all(answers)).every((status) => status === 200);
  }
}

function answer(client, url) {
  return new Promise((resolve) => {
    const request = client.get(url, { rejectUnauthorized: false }, (response) => {
      response.resume();
      resolve(response.statusCode);
    });
    request.on("error", () => resolve(undefined));
  });
}

async function freePort() {
  for (;;) {
    const port = PORTS.from + Math.floor(Math.random() * (PORTS.to - PORTS.from));
    const isFree = await new Promise((resolve) => {
      const server = net.createServer();
      server.on("error", () => resolve(false));
      server.listen(port, "127.0.0.1", () => server.close(() => resolve(true)));
    });
    if (isFree) return port;
  }
}
