// What the tests share: the modules' folder, the fixtures, and a generator of random numbers that repeats itself.

import { readFileSync } from "node:fs";

export const modules = new URL("../../django_workflows/static/django_workflows/debugger/", import.meta.url);
export const load = (name) => import(new URL(name, modules));
export const fixture = (name) => JSON.parse(readFileSync(new URL(`fixtures/${name}`, import.meta.url)));

/** mulberry32: numbers in [0, 1), the same ones for the same seed. */
export function random(seed) {
  let state = seed;
  return () => {
    state = (state + 0x6d2b79f5) | 0;
    let mixed = Math.imul(state ^ (state >>> 15), 1 | state);
    mixed = (mixed + Math.imul(mixed ^ (mixed >>> 7), 61 | mixed)) ^ mixed;
    return ((mixed ^ (mixed >>> 14)) >>> 0) / 4294967296;
  };
}
