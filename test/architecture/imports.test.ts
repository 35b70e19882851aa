import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import t from 'tap';
import { type Import, projectFolder, type SourceFile, sourceFiles } from './source-tree.js';

const files = sourceFiles('core', 'plugins');
const byPath = new Map(files.map((file) => [file.path, file]));
const jobTypes = 'core/jobs/job.ts'; // what the rooms say to each other about jobs

interface Room {
  readonly of: RegExp;
  /** Why it may not import more. */
  readonly why: string;
  /** Files of the project that it may import, beside its own. */
  readonly may: readonly RegExp[];
  /** And these for their types only: they are injected. */
  readonly types?: readonly RegExp[];
}

const contract = /^core\/contract\//;
const primitives = /^core\/primitives\//;
const job = /^core\/jobs\/(job|kinds)\.ts$/;
const recordNames = /^core\/archive\/record\/layout\.ts$/;
const schemas = /^core\/schemas\.ts$/;
const archive = /^core\/archive\/index\.ts$/;
const policy = /^core\/policy\/index\.ts$/;
const plugins = /^core\/plugins\//;
const targets = /^core\/targets\//;
const base = [contract, primitives, schemas];
const rooms: readonly Room[] = [
  { of: /^core\/contract\//, why: 'a plugin author reads it alone', may: [] },
  { of: /^core\/primitives\//, why: 'every other room builds on it', may: [contract] },
  { of: /^core\/archive\//, why: 'the format knows no jobs and no targets beyond the contract', may: base },
  { of: /^core\/policy\//, why: 'a policy wraps any target', may: [contract, primitives] },
  { of: plugins, why: 'plugins are loaded before anything uses them', may: base },
  {
    of: targets,
    why: 'it opens targets and reads records for whoever asks: it knows what a job says, and nothing of how jobs run',
    may: [...base, archive, policy, plugins, job, /^core\/secrets\.ts$/],
    types: [/^core\/store\//, /^core\/jobs\/deps\.ts$/, /^core\/api\/deps\.ts$/],
  },
  { of: /^core\/store\//, why: 'it keeps rows and runs nothing', may: [...base, job, /^core\/secrets\.ts$/] },
  {
    of: /^core\/jobs\/schedule\//,
    why: 'it decides in the main thread what runs when; archive bytes pass through workers only',
    may: [...base, /^core\/jobs\/[^/]+\.ts$/],
    types: [/^core\/jobs\/worker\//],
  },
  {
    of: /^core\/jobs\/worker\//,
    why: 'it starts threads and listens to them; what runs in them is in run/',
    may: [...base, /^core\/jobs\/[^/]+\.ts$/, targets],
    types: [/^core\/jobs\/schedule\//],
  },
  {
    of: /^core\/jobs\/run\//,
    why: 'it runs inside a thread and reaches the main thread by messages only',
    may: [...base, archive, policy, plugins, targets, job, /^core\/(log|secrets)\.ts$/],
  },
  {
    of: /^core\/jobs\/[^/]+\.ts$/,
    why: 'it puts the schedule and the workers together',
    may: [...base, recordNames, /^core\/jobs\/([^/]+\.ts$|schedule\/|worker\/)/],
    types: [targets, /^core\/log\.ts$/],
  },
  { of: /^core\/update\//, why: 'an update must work whatever else is broken', may: [contract, primitives] },
  {
    of: /^core\/api\//,
    why: 'it answers requests by what it is given, and opens nothing itself',
    may: [...base, job, /^core\/targets\/address\.ts$/],
    types: [/^core\/store\//, plugins],
  },
  {
    of: /^core\/appliance\//,
    why: 'it is what the machine needs: the port, certificates, engines, sshd',
    may: [...base, archive, /^core\/config\.ts$/, /^core\/api\/rescue\.ts$/],
    types: [/^core\/store\//, plugins, /^core\/api\/deps\.ts$/],
  },
  { of: /^plugins\/shared\//, why: 'plugins of any kind build on it', may: [contract] },
  { of: /^plugins\/(targets|runtimes)\/[^/]+\//, why: 'a plugin stands alone beside the contract', may: [contract, /^plugins\/shared\//] },
];

const packages: Readonly<Record<string, RegExp>> = {
  bree: /^core\/jobs\/worker\/bree\.ts$/,
  'classic-level': /^core\/store\/copies\/db\.ts$/,
  ajv: /^core\/schemas\.ts$/,
  ssh2: /^plugins\/(shared\/ssh|targets\/sftp)\//,
  koa: /^core\/api\/listener\.ts$/,
  '@koa/router': /^core\/api\/listener\.ts$/,
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

/** The rule in words that a person can act on. */
function allowedNames({ may, types = [] }: Room): string {
  const words = (rules: readonly RegExp[]) => rules.map(({ source }) => source.replace(/^\^|\\|\$$/g, '')).join(', ');
  return `its own room${may.length > 0 ? `, ${words(may)}` : ''}${types.length > 0 ? `, and the types of ${words(types)}` : ''}`;
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
    t.same(wrong, [], room ? `${file.path} may import only ${allowedNames(room)}: ${room.why}` : file.path);
  }
});

/** Files that import each other, by way of others or not: Tarjan's strongly connected components of more than one file. */
function circles(): string[][] {
  const order = new Map<string, { at: number; low: number }>();
  const stack: string[] = [];
  const found: string[][] = [];
  const visit = (path: string): { at: number; low: number } => {
    const own = { at: order.size, low: order.size };
    order.set(path, own);
    stack.push(path);
    for (const { to } of byPath.get(path)?.imports ?? []) {
      if (!byPath.has(to)) continue;
      const seen = order.get(to);
      if (seen === undefined) own.low = Math.min(own.low, visit(to).low);
      else if (stack.includes(to)) own.low = Math.min(own.low, seen.at);
    }
    if (own.low === own.at) {
      const circle = stack.splice(stack.indexOf(path));
      if (circle.length > 1) found.push(circle);
    }
    return own;
  };
  for (const path of byPath.keys()) if (!order.has(path)) visit(path);
  return found;
}

t.test('no files import each other in a circle, not even types', async (t) => {
  t.same(circles(), [], 'move what both need into a file of its own');
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

t.test('a target is opened in one place, which puts it under the policy', async (t) => {
  const wrong = files.filter(({ path, text }) => !plugins.test(path) && /\bopenTarget\b/.test(text));
  t.same(
    wrong.map(({ path }) => path),
    ['core/targets/under-policy.ts'],
    'all others take openUnderPolicy: what hangs, breaks or is slow is then met in the same way wherever a target is used',
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
