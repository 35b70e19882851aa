import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { campaigns } from '../support/depth.js';
import { projectFolder } from './source-tree.js';

/** The table that scripts/budgets.mjs reads. */
const page = readFileSync(join(projectFolder, 'docs/contributing.md'), 'utf8');
const rows = [...page.matchAll(/^\| `([^`]+)` \| (\d+) \| (apart|[\d.]+) \| ([^|]*)\|$/gm)];
const suites = readdirSync(join(projectFolder, 'test'), { recursive: true, encoding: 'utf8' })
  .filter((path) => path.endsWith('.test.ts'))
  .map((path) => path.slice(0, -'.test.ts'.length));

t.test('docs/contributing.md has a budget for each suite, and for no other', async (t) => {
  const named = rows.map(([, name = '']) => name).filter((name) => !name.startsWith('firmware '));
  const own = suites.filter((name) => name !== 'firmware/firmware'); // it has a row for each depth and board
  t.same(named.toSorted(), own.toSorted(), 'add a row to the table of budgets');
});

t.test('a budget of more than 60 seconds says why', async (t) => {
  for (const [, name, seconds, , why = ''] of rows) t.ok(Number(seconds) <= 60 || why.trim().length > 10, `${name}: ${seconds} s`);
});

t.test('a campaign names suites that there are, and docs/reliability.md has its figures', async (t) => {
  const figures = readFileSync(join(projectFolder, 'docs/reliability.md'), 'utf8');
  for (const [name, campaign] of Object.entries(campaigns)) {
    t.same(
      campaign.suites.filter((suite) => !suites.includes(suite)),
      [],
      `${name}: its suites`,
    );
    t.ok(figures.includes(`| \`${name}\` |`), `${name}: run make campaign-${name} and write a row`);
  }
});
