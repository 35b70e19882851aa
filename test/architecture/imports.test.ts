import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Import, projectFolder, type SourceFile, sourceFiles } from './source-tree.js';

const files = sourceFiles('core', 'plugins');
const byPath = new Map(files.map((file) => [file.path, file]));
const jobTypes = 'core/jobs/job.ts'; // what the rooms say to each other about jobs

interface Room {
  readonly of: RegExp;
  /** Files of the project that it may import, beside its own. */
  readonly may: readonly RegExp[];
  /** And these for their types only: they are injected. */
  readonly types?: readonly RegExp[];
}

const contract = /^core\/contract\//;
const job = /^core\/jobs\/job\.ts$/;
const schemas = /^core\/schemas\.ts$/;
const rooms: readonly Room[] = [
  { of: /^core\/contract\//, may: [] },
  // A manifest is input: its schema parses it. Slots is a semaphore and knows no policy.
  { of: /^core\/archive\//, may: [contract, schemas, /^core\/policy\/slots\.ts$/] },
  { of: /^core\/store\//, may: [contract, job, schemas, /^core\/(secrets|durable)\.ts$/, /^core\/policy\/slots\.ts$/] },
  { of: /^core\/plugins\//, may: [contract, schemas] },
  { of: /^core\/policy\//, may: [contract] },
  {
    of: /^core\/jobs\//,
    may: [contract, schemas, /^core\/archive\//, /^core\/plugins\//, /^core\/policy\//, /^core\/(log|durable|secrets|address)\.ts$/],
  },
  { of: /^core\/update\//, may: [contract, /^core\/durable\.ts$/] },
  { of: /^core\/api\//, may: [contract, job, schemas, /^core\/address\.ts$/], types: [/^core\/store\//, /^core\/plugins\//] },
  { of: /^plugins\/shared\//, may: [contract] },
  { of: /^plugins\/(targets|runtimes)\/[^/]+\//, may: [contract, /^plugins\/shared\//] },
];

const packages: Readonly<Record<string, RegExp>> = {
  bree: /^core\/jobs\/scheduler\.ts$/,
  'classic-level': /^core\/store\/db\.ts$/,
  ajv: /^core\/schemas\.ts$/,
  ssh2: /^plugins\/(shared\/ssh[^/]*|targets\/sftp\/[^/]+)\.ts$/,
  koa: /^core\/api\//,
  '@koa/router': /^core\/api\//,
};

/** The folder that a file may always import from. */
function own(room: Room, file: SourceFile): string {
  return room.of.exec(file.path)?.[0] ?? file.path;
}

function allowed(room: Room, file: SourceFile, { to, typeOnly }: Import): boolean {
  if (!byPath.has(to) && !to.startsWith('core/') && !to.startsWith('plugins/')) return true; // a package
  if (to.startsWith(own(room, file)) || room.may.some((rule) => rule.test(to))) return true;
  return typeOnly && (room.types ?? []).some((rule) => rule.test(to));
}

const packageName = (to: string): string => to.split('/', to.startsWith('@') ? 2 : 1).join('/');

function reachable(from: string, seen = new Set<string>()): Set<string> {
  if (seen.has(from)) return seen;
  seen.add(from);
  for (const { to, typeOnly } of byPath.get(from)?.imports ?? []) if (!typeOnly) reachable(to, seen);
  return seen;
}

t.test('a file imports only what its room may', async (t) => {
  t.ok(files.length > 10, `${files.length} files`);
  for (const file of files) {
    const room = rooms.find(({ of }) => of.test(file.path));
    const wrong = room ? file.imports.filter((line) => !allowed(room, file, line)).map(({ to }) => to) : [];
    t.same(wrong, [], file.path);
  }
});

t.test('the contract needs nothing but Node', async (t) => {
  const wrong = files.filter(({ path }) => contract.test(path)).flatMap(({ imports }) => imports.map(({ to }) => to));
  t.same(
    wrong.filter((to) => !contract.test(to) && !to.startsWith('node:')),
    [],
  );
});

t.test('a package is named only where it is wrapped', async (t) => {
  for (const file of files) {
    const wrong = file.imports.map(({ to }) => packageName(to)).filter((name) => packages[name] && !packages[name].test(file.path));
    t.same(wrong, [], file.path);
  }
});

t.test('signals are combined by what garbage collection does not break', async (t) => {
  const wrong = files.filter(({ text }) => text.includes('AbortSignal.any('));
  t.same(
    wrong.map(({ path }) => path),
    ['core/contract/signal.ts'],
    'all others take anySignal of the contract',
  );
});

t.test('the worker never touches the store, the API or their packages', async (t) => {
  const all = [...reachable('core/jobs/run/worker.ts')];
  t.same(
    all.filter((to) => /^core\/(store|api|cli)\//.test(to) || ['bree', 'classic-level', 'koa', '@koa/router'].includes(packageName(to))),
    [],
  );
});

t.test('what the rooms say about jobs imports nothing at run time', async (t) => {
  t.same(
    (byPath.get(jobTypes)?.imports ?? []).filter(({ typeOnly }) => !typeOnly),
    [],
  );
});

t.test('the lock file names no server', async (t) => {
  const lock = readFileSync(join(projectFolder, 'package-lock.json'), 'utf8');
  t.notMatch(lock, /"resolved"/, "no resolved addresses: the registry is the machine's own");
  t.match(lock, /"integrity": "sha512-/, 'but the contents are pinned');
});
