import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { projectFolder } from './source-tree.js';

const page = readFileSync(join(projectFolder, 'docs/architecture.md'), 'utf8');
const section = page.split(/^## /m).find((one) => one.startsWith('The way of a byte')) ?? '';
const rows = [...section.matchAll(/^\| `([^`]+\.ts)` \| ([^|]+) \|$/gm)];

t.test('docs/architecture.md walks with a byte through files that exist, and through none twice', async (t) => {
  t.ok(rows.length > 30, `${rows.length} files`);
  for (const [, path = ''] of rows) t.ok(existsSync(join(projectFolder, path)), path);
  const paths = rows.map(([, path]) => path);
  t.same(
    paths.filter((path, at) => paths.indexOf(path) !== at),
    [],
    'no file comes twice',
  );
});
