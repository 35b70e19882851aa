// What docs/contributing.md says of each suite: the rows of its table that begin with a suite's name.
import { readFileSync } from 'node:fs';

const page = new URL('../docs/contributing.md', import.meta.url);
const row = /^\| `([^`]+)` \| (\d+) \| (apart|[\d.]+) \| ([^|]*)\|/gm;

/** `system/crash/crash` of dist/test/system/crash.test.js; the firmware's is called by its board. */
export const suiteName = (file) => file.replace(/^dist\/test\//, '').replace(/\.test\.js$/, '');

/** By the suite's name: seconds by itself, processors that it keeps busy, whether nothing may run beside it, and whether it
 *  needs no engine and no server. */
export function readBudgets() {
  const rows = readFileSync(page, 'utf8').matchAll(row);
  return new Map(
    [...rows].map(([, name, seconds, cores, kind]) => [
      name,
      { seconds: Number(seconds), cores: cores === 'apart' ? 2 : Number(cores), apart: cores === 'apart', fast: /\bfast\b/.test(kind) },
    ]),
  );
}
