/** Kills and power cuts while the state is written. Every acknowledged write is there afterwards, and no id is used twice. */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as sleep } from 'node:timers/promises';
import { fileURLToPath } from 'node:url';
import t from 'tap';
import { openStore } from '../../../core/store/index.js';
import { isBody } from '../../support/api-client.js';
import { isWanted, pointsOf, seed } from '../../support/depth.js';
import { cutFileSystem } from '../../support/power-cut.js';
import { backupNamed } from './bed.js';

t.comment(`TEST_SEED=${seed}`);
const writerFile = fileURLToPath(new URL('./writer.js', import.meta.url));

/** The last acknowledged state of each job: its bytes, or undefined once it is deleted. */
class Ledger {
  readonly jobs = new Map<number, number | undefined>();
  readonly deleted = new Set<number>();
  highest = 0;
  /** Ids that two jobs got. */
  readonly twice: number[] = [];

  take(line: string): void {
    const said: unknown = JSON.parse(line);
    if (!isBody(said) || typeof said.id !== 'number' || said.id === 0) return;
    const { id, bytes } = said;
    this.highest = Math.max(this.highest, id);
    if (said.deleted === true) {
      this.deleted.add(id);
      this.jobs.delete(id);
    } else if (typeof bytes === 'number') this.jobs.set(id, bytes);
    else if (this.jobs.has(id) || this.deleted.has(id)) this.twice.push(id);
    else this.jobs.set(id, undefined);
  }

  /** The writer deletes each third job, right after its result. */
  #mayBeDeleted(bytes: number | undefined): boolean {
    return bytes !== undefined && (bytes % 1_000_000) % 3 === 0;
  }

  /** Problems of a state. */
  async problemsIn(folder: string): Promise<string[]> {
    const told: string[] = [];
    const store = await openStore(folder, { log: (level, message) => void (level === 'error' && told.push(message)) });
    const kept = new Map((await store.backup.list()).map(({ id, state }) => [id, state.bytes]));
    for (const [id, bytes] of this.jobs) {
      // A deletion without an acknowledgement may have worked, after the acknowledged result before it.
      if (!kept.has(id) && !this.#mayBeDeleted(bytes)) told.push(`job ${id} is lost`);
      if (kept.has(id) && bytes !== undefined && kept.get(id) !== bytes) told.push(`job ${id} has ${kept.get(id)} bytes, not ${bytes}`);
    }
    for (const id of this.deleted) if (kept.has(id)) told.push(`job ${id} is there again`);
    const { id } = await store.backup.create(backupNamed('after'), { code: 'init' });
    if (id <= this.highest) told.push(`id ${id} is given again, after ${this.highest}`);
    await store.backup.delete(id);
    this.highest = id;
    await store.close();
    return [...told, ...this.twice.map((twice) => `id ${twice} was given twice`)];
  }
}

interface Writer {
  readonly child: ChildProcess;
  readonly ended: Promise<unknown>;
}

async function startWriter(folder: string, ledger: Ledger, number: number): Promise<Writer> {
  const child = spawn(process.execPath, [writerFile, folder, String(number)], { stdio: ['ignore', 'pipe', 'inherit'] });
  const lines = createInterface({ input: child.stdout });
  const ended = Promise.all([once(child, 'exit'), once(lines, 'close')]);
  const first = once(lines, 'line');
  lines.on('line', (line) => ledger.take(line));
  await first; // it is open
  return { child, ended };
}

const pause = (round: number): Promise<void> => sleep(30 + ((round * 7919 + seed) % 300));

t.test('a kill at any moment loses no acknowledged write', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'kills-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const ledger = new Ledger();
  const { kills } = pointsOf('state');
  for (let round = 0; round < kills; round++) {
    if (!isWanted(`kill ${round + 1}`)) continue;
    const { child, ended } = await startWriter(join(folder, 'state'), ledger, round * 3000);
    await pause(round);
    child.kill('SIGKILL');
    await ended;
    t.same(await ledger.problemsIn(join(folder, 'state')), [], `kill ${round + 1}`);
  }
  t.comment(`${ledger.highest} ids were given`);
});

t.test('a power cut at any moment loses no acknowledged write', async (t) => {
  const folder = await mkdtemp(join(tmpdir(), 'cuts-'));
  t.teardown(() => rm(folder, { recursive: true, force: true }));
  const disk = await cutFileSystem(t, folder);
  const ledger = new Ledger();
  const { cuts } = pointsOf('state');
  for (let round = 0; round < cuts; round++) {
    if (!isWanted(`cut ${round + 1}`)) continue;
    const { child, ended } = await startWriter(join(disk.folder, 'state'), ledger, round * 3000);
    await pause(round);
    await disk.cut(async () => {
      child.kill('SIGKILL');
      await ended;
    });
    t.same(await ledger.problemsIn(join(disk.folder, 'state')), [], `cut ${round + 1}`);
  }
  t.comment(`${ledger.highest} ids were given`);
});
