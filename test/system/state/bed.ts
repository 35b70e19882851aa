/** A state whose acknowledged content is known, and copies of it to damage. */
import { access, cp, mkdtemp, readdir, readFile, rm, truncate, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { ServiceError } from '../../../core/primitives/service-error.js';
import { openStore, StateDamaged, type Store } from '../../../core/store/index.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';

/** Everything that a client can read back. */
export type Contents = Readonly<Record<string, unknown>>;

export const backupNamed = (name: string) => ({
  job_name: name,
  container_id: name,
  type: 'lxc',
  dest: { target: 'local' as const, path: '/test/b' },
  at: { repeat: 'daily' as const, start: 60 },
  disable: false,
  retention: 0,
  features: [],
});

export async function contentsOf(store: Store): Promise<Contents> {
  return {
    backups: await store.backup.list(),
    restores: await store.restore.list(),
    targets: await store.targets.list(),
    leases: await store.leases.list(),
    preferences: await store.preferences.get(),
    hasUser: await store.users.any(),
    share: await store.shares.get('test'),
  };
}

/** Writes again after a reopening, so that the database has a table file and a log, as in use. */
async function fill(folder: string, word: string): Promise<Contents> {
  const first = await openStore(folder);
  for (let n = 1; n <= 30; n++) await first.backup.create(backupNamed(`${word}-${n}`), { code: 'scheduled', next_run: 1e12 + n });
  await first.users.createFirst('admin', 'correct horse');
  await first.shares.put('test', '/srv/test');
  await first.close();
  const second = await openStore(folder);
  const target = { name: word, ipaddr: 'nas', username: 'u', password: word, desc: '', base: '/', encrypt: false };
  await second.targets.create(target);
  await second.leases.put({ runtime: 'lxc', container: word, until: 5 });
  await second.preferences.put({ backup_concurrent: 3 });
  for (let n = 31; n <= 40; n++) await second.backup.create(backupNamed(`${word}-${n}`), { code: 'scheduled', next_run: 1e12 + n });
  await second.backup.delete(7);
  await second.backup.put({ id: 8, spec: backupNamed(`${word}-8`), state: { code: 'scheduled', result: 0, next_run: 2e12 } });
  const contents = await contentsOf(second);
  await second.close();
  return contents;
}

export interface StateBed {
  /** The acknowledged state. */
  readonly folder: string;
  readonly contents: Contents;
  /** A state of another appliance, written in the same way. */
  readonly other: string;
  /** Paths of all files, relative to the folder. */
  readonly files: readonly string[];
  /** Makes a copy for one test. `end` removes it. */
  copy(): Promise<{ readonly folder: string; end(): Promise<void> }>;
}

export async function makeStateBed(t: Pick<Test, 'teardown'>): Promise<StateBed> {
  // In memory, where a sync takes no time. Another suite tests power cuts.
  const shared = await access('/dev/shm').then(
    () => '/dev/shm',
    () => tmpdir(),
  );
  const above = await mkdtemp(join(shared, 'state-'));
  t.teardown(() => rm(above, { recursive: true, force: true }));
  const [folder, other] = [join(above, 'own'), join(above, 'other')];
  const contents = await fill(folder, 'own');
  await fill(other, 'other');
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(folder.length + 1));
  let copies = 0;
  return {
    folder,
    contents,
    other,
    files: files.sort(),
    async copy() {
      const path = join(above, `copy-${++copies}`);
      await cp(folder, path, { recursive: true });
      return { folder: path, end: () => rm(path, { recursive: true, force: true }) };
    },
  };
}

/** Ways to damage a file. */
export type Harm = (file: string, other: string) => Promise<unknown>;

export const harms: Readonly<Record<string, Harm>> = {
  deleted: (file) => rm(file),
  empty: (file) => truncate(file, 0),
  half: async (file) => truncate(file, Math.floor((await readFile(file)).length / 2)),
  'one byte less': async (file) => truncate(file, Math.max(0, (await readFile(file)).length - 1)),
  "another's": (file, other) => cp(other, file),
  'read-only': (file) => childOutput('chattr', ['+i', file]),
};

/** Flips a bit of a file, counted from its start. */
export const flip =
  (at: number): Harm =>
  async (file) => {
    const bytes = await readFile(file);
    const byte = Math.floor(at / 8) % Math.max(1, bytes.length);
    bytes[byte] = (bytes[byte] ?? 0) ^ (1 << (at % 8));
    await writeFile(file, bytes);
  };

export interface Outcome {
  /** `refused`: the folder cannot be written. */
  readonly kind: 'whole' | 'healed' | 'rescue' | 'refused';
  readonly contents?: Contents;
  /** Warnings, or the reason why it did not open. */
  readonly told: readonly string[];
}

/** Opens a state as the service does. */
export async function outcomeOf(folder: string): Promise<Outcome> {
  const told: string[] = [];
  const log = (level: string, message: string) => void (level === 'warn' || level === 'error' ? told.push(message) : undefined);
  try {
    const store = await openStore(folder, { log });
    const contents = await contentsOf(store).finally(() => store.close());
    return { kind: told.length > 0 ? 'healed' : 'whole', contents, told };
  } catch (error) {
    if (error instanceof StateDamaged) return { kind: 'rescue', told: [error.message] };
    if (error instanceof ServiceError) return { kind: 'refused', told: [error.message] };
    throw error;
  }
}

/** Damages each line of a file that holds the words. */
export async function cutLines(file: string, words: string): Promise<void> {
  const lines = (await readFile(file, 'utf8')).split('\n');
  if (!lines.some((line) => line.includes(words))) throw new Error(`no line of ${file} holds ${words}`);
  const harmed = lines.map((line) => (line.includes(words) ? line.replace(/^./, (first) => (first === '0' ? '1' : '0')) : line));
  await writeFile(file, harmed.join('\n'));
}
