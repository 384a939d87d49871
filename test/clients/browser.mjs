import { chromium } from "playwright-core";

// Chromium without its own traffic. CHROMIUM names another browser than Debian's. Takes more of its
// arguments, and other options of Playwright's.
export function launch({ args = [], ...options } = {}) {
  return chromium.launch({
    ...options,
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      ...args,
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
    ],
  });
}

// Walks steps, given by name, up to the first that fails. `complaints` are those of the pages.
export async function walk(steps, complaints) {
  for (const [name, step] of Object.entries(steps)) {
    try {
      await step();
      console.log(`ok ${name}`);
    } catch (error) {
      console.log(`not ok ${name}: ${error.message}`);
      // What the browser said is often the reason for what a page did not show.
      for (const complaint of complaints) console.log(`  ${complaint}`);
      process.exitCode = 1;
      return;
    }
  }
}
