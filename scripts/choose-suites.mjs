// Prints the compiled suites that `make test ONLY=` names, a line each: choose-suites.mjs "<folder or name> …". Without a name: all
// but the firmware's, which needs an image. `fast`: those that need no engine and no server, by docs/contributing.md.
import { readdirSync } from 'node:fs';
import { readBudgets, suiteName } from './budgets.mjs';

const firmware = 'firmware/firmware';
const all = readdirSync('dist/test', { recursive: true })
  .filter((path) => path.endsWith('.test.js'))
  .map((path) => suiteName(path))
  .filter((name) => name !== firmware)
  .sort();
const wanted = (process.argv[2] ?? '').split(/\s+/).filter(Boolean);
const budgets = readBudgets();

function named(wish) {
  if (wish === 'fast') return all.filter((name) => budgets.get(name)?.fast);
  const path = suiteName(wish.replace(/^(dist\/)?test\//, '').replace(/\.test\.ts$/, '').replace(/\/$/, ''));
  return all.filter((name) => name === path || name.startsWith(`${path}/`) || name.endsWith(`/${path}`));
}

const chosen = new Set(wanted.length === 0 ? all : []);
for (const wish of wanted) {
  const found = named(wish);
  for (const name of found) chosen.add(name);
  if (found.length > 0) continue;
  const folders = [...new Set(all.map((name) => name.split('/')[0]))];
  console.error(`no suite is called ${wish}. Folders: ${folders.join(', ')}. Suites: ${all.join(', ')}`);
  process.exit(1);
}
for (const name of chosen) console.log(`dist/test/${name}.test.js`);
