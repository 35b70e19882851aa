/** A real LXC container and a real share. The suite calls runs directly, so that it can inject faults into their target. Both lie in
 *  memory (tmpfs), because hundreds of runs sync their files. */
import { createHash, createHmac } from 'node:crypto';
import { mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Test } from 'tap';
import { type Manifest, type RecordedRun, readRuns } from '../../../core/archive/index.js';
import type { Runtime, Target } from '../../../core/contract/index.js';
import { type BackupOutcome, backupRun } from '../../../core/jobs/run/backup.js';
import { type RestoreOutcome, restoreRun } from '../../../core/jobs/run/restore.js';
import { lockRecord } from '../../../core/targets/record-lock.js';
import lxcPlugin from '../../../plugins/runtimes/lxc/index.js';
import { childOutput } from '../../../plugins/shared/primitives/child.js';
import local from '../../../plugins/targets/local/index.js';
import { markShare } from '../../../plugins/targets/local/marker.js';
import { notSoon } from '../../support/api-client.js';
import { destroyLxc, lxc, makeLxcContainer, startLxc } from '../../support/lxc.js';

const name = 'victim';
export const keptRuns = 2;
const recordName = 'container-backup@faults';

export interface FaultBench {
  readonly target: Target;
  /** The record's folder on this machine. */
  readonly record: string;
  /** The container's volume. */
  readonly data: string;
  readonly lxcPath: string;
  backUp(target: Target, o?: { readonly newBase?: boolean; readonly signal?: AbortSignal }): Promise<BackupOutcome>;
  restore(
    target: Target,
    o?: { readonly run?: string; readonly container?: string; readonly signal?: AbortSignal },
  ): Promise<RestoreOutcome>;
  state(): Promise<string>;
  /** Complete runs that a reader finds, newest first. */
  runs(): Promise<readonly Manifest[]>;
  /** Problems of the record: runs whose manifest or archives are not whole. */
  damage(): Promise<string[]>;
  /** Files of the record that no run needs. */
  leftovers(): Promise<string[]>;
}

async function memory(t: Pick<Test, 'teardown'>): Promise<string> {
  const folder = await mkdtemp(join(tmpdir(), 'faults-'));
  await childOutput('mount', ['-t', 'tmpfs', '-o', 'size=512m,mode=755', 'tmpfs', folder]);
  t.teardown(async () => {
    await childOutput('umount', [folder]);
    await rm(folder, { recursive: true });
  });
  return folder;
}

const spec = {
  job_name: 'faults',
  container_id: name,
  type: 'lxc',
  dest: { target: 'local', path: '/test' },
  at: notSoon(),
  disable: false,
  retention: keptRuns,
  features: ['compress', 'pause'],
} as const;

const heldLease = async () => ({ isExpired: () => false, release: () => undefined, [Symbol.asyncDispose]: async () => undefined });
const sealer = { appliance: 'faults', mac: (text: string) => createHmac('sha256', 'faults').update(text).digest('hex') };
const never = new AbortController().signal;
const log = () => undefined;

function runner(runtime: Runtime, work: string): Pick<FaultBench, 'backUp' | 'restore'> {
  return {
    async backUp(target, { newBase = false, signal = never } = {}) {
      const workFolder = await mkdtemp(join(work, 'run-'));
      const deps = {
        id: 1,
        spec,
        runtime,
        target,
        workFolder,
        newBase,
        newBaseRatio: 0.5,
        bigFileBytes: 16 << 20,
        verifyMs: 0,
        confirmed: [],
        claim: { appliance: sealer.appliance, job: 1, rivals: [], log },
        sealer,
        signal,
        log,
      };
      try {
        const lock = (record: string) => lockRecord(target, record, { appliance: 'bench', job: 1, signal, log, waits: [10] });
        return await backupRun({
          ...deps,
          lock,
          progress: () => undefined,
          pauseExpected: () => undefined,
          startOver: () => undefined,
          lease: heldLease,
        });
      } finally {
        await rm(workFolder, { recursive: true });
      }
    },
    async restore(target, o = {}) {
      const workFolder = await mkdtemp(join(work, 'restore-'));
      return restoreInto(runtime, target, { ...o, workFolder }).finally(() => rm(workFolder, { recursive: true }));
    },
  };
}

function restoreInto(
  runtime: Runtime,
  target: Target,
  {
    run,
    container = name,
    signal = never,
    workFolder,
  }: NonNullable<Parameters<FaultBench['restore']>[1]> & { readonly workFolder: string },
): ReturnType<typeof restoreRun> {
  const portfolio = run === undefined ? 'faults' : `faults/${run}`;
  const src = { target: 'local', path: '/test', portfolio } as const;
  const order = { job_name: 'back', container_id: container, type: 'lxc', src, disable: false };
  const deps = { spec: order, runtime, target, workFolder, sealer, shares: [], undoMs: 0, signal, log, progress: () => undefined };
  return restoreRun(deps);
}

function judge(target: Target, record: string): Pick<FaultBench, 'runs' | 'damage' | 'leftovers'> {
  const read = async () => {
    const found: RecordedRun[] = [];
    for await (const one of readRuns(target, recordName, never)) found.push(one);
    return {
      complete: found.flatMap((one) => (one.state === 'complete' ? [one.manifest] : [])),
      damaged: found.flatMap((one) => (one.state === 'damaged' ? [one.why] : [])),
    };
  };
  const filesOf = ({ run, archives }: Manifest) => [
    { path: `${run}/manifest.json`, sha256: undefined },
    ...archives.flatMap((archive) => [archive, ...(archive.snapshot ? [archive.snapshot] : [])]),
  ];
  return {
    runs: async () => (await read()).complete,
    async damage() {
      const { complete, damaged } = await read();
      const found = [...damaged];
      for (const { path, sha256 } of complete.flatMap(filesOf)) {
        const bytes = await readFile(join(record, path)).catch(() => undefined);
        const whole = bytes && (sha256 === undefined || createHash('sha256').update(bytes).digest('hex') === sha256);
        if (!whole) found.push(`${path} ${bytes ? 'is not what its manifest says' : 'is missing'}`);
      }
      return found;
    },
    async leftovers() {
      const needed = new Set((await read()).complete.flatMap(filesOf).map(({ path }) => path));
      const there = await readdir(record, { recursive: true, withFileTypes: true }).catch(() => []);
      const paths = there.filter((entry) => entry.isFile()).map((entry) => join(entry.parentPath, entry.name).slice(record.length + 1));
      return paths.filter((path) => !['backup-metadata', 'verified.json'].includes(path) && !needed.has(path));
    },
  };
}

export async function makeFaultBench(t: Pick<Test, 'teardown'>): Promise<FaultBench> {
  const folder = await memory(t);
  const [lxcPath, root, work] = ['lxc', 'share', 'work'].map((part) => join(folder, part));
  if (lxcPath === undefined || root === undefined || work === undefined) throw new Error('no folders');
  for (const one of [lxcPath, root, work]) await mkdir(one);
  await makeLxcContainer(lxcPath, name);
  t.teardown(async () => {
    for (const one of await readdir(lxcPath)) await destroyLxc(lxcPath, one);
  });
  await startLxc(lxcPath, name);
  await markShare(root);
  const runtime = await lxcPlugin.open({ log, signal: never, stateFolder: work, options: { path: lxcPath } });
  const target = await local.open({ log, signal: never, stateFolder: work, options: { share: 'test', root } });
  const record = join(root, recordName);
  const data = join(lxcPath, name, 'volumes/data');
  await writeFile(join(data, 'ballast'), Buffer.alloc(1_000_000, 'ballast'));
  const state = () => lxc('info', lxcPath, name, '-sH');
  return { target, record, data, lxcPath, state, ...runner(runtime, work), ...judge(target, record) };
}

export interface CallCounts {
  readonly put: number;
  readonly get: number;
  readonly stat: number;
  readonly list: number;
  readonly remove: number;
  readonly space: number;
}

/** The target, and the number of calls of each operation. */
export function countedTarget(target: Target): { readonly target: Target; readonly calls: CallCounts } {
  const calls = { put: 0, get: 0, stat: 0, list: 0, remove: 0, space: 0 };
  const count = <T>(op: keyof CallCounts, call: () => T): T => {
    calls[op] += 1;
    return call();
  };
  return {
    calls,
    target: {
      supports: target.supports,
      put: (path, source, o) => count('put', () => target.put(path, source, o)),
      get: (path, o) => count('get', () => target.get(path, o)),
      stat: (path) => count('stat', () => target.stat(path)),
      list: (path) => count('list', () => target.list(path)),
      remove: (path) => count('remove', () => target.remove(path)),
      space: () => count('space', () => target.space()),
      [Symbol.asyncDispose]: async () => undefined,
    },
  };
}
