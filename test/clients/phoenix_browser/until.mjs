import { isDeepStrictEqual } from "node:util";

const WAIT_MS = 30_000;
const PAUSE_MS = 50;

// Waits until `look` returns something true, and returns it.
export async function until(look, what, ms = WAIT_MS) {
  const end = Date.now() + ms;
  for (;;) {
    const seen = await look();
    if (seen) return seen;
    if (Date.now() > end) throw new Error(`waited ${ms} ms for ${what}`);
    await new Promise((resolve) => setTimeout(resolve, PAUSE_MS));
  }
}

export function equal(seen, expected) {
  if (!isDeepStrictEqual(seen, expected)) {
    throw new Error(`got ${JSON.stringify(seen)} instead of ${JSON.stringify(expected)}`);
  }
}
