/** Opens remote targets in the main thread for the API, and stores what the first contact found. */
import { randomBytes } from 'node:crypto';
import { Readable } from 'node:stream';
import type { RemoteTargets } from '../api/deps.js';
import { PluginError, type PluginLog, type Target } from '../contract/index.js';
import type { TargetRegistry } from '../jobs/deps.js';
import type { FoundTarget } from '../jobs/job.js';
import type { Plugins } from '../plugins/index.js';
import { errorRows } from '../primitives/error-rows.js';
import type { Store, TargetRow } from '../store/index.js';
import { openRemote } from './remote.js';

/** The target rows that the job service needs. */
export function createTargetRegistry(store: Store): TargetRegistry {
  return {
    get: (target) => store.targets.get(target),
    seal: (text, purpose) => store.seal(text, purpose),
    keepFound: (target, found) => keepFound(store, target, found),
  };
}

/** Trust on first use: stores what the first contact found. A later finding replaces it only when the address or type has changed. */
async function keepFound(store: Store, target: number, found: FoundTarget): Promise<void> {
  await store.targets.update(target, (row) => {
    if (row.spec.ipaddr !== found.ipaddr) return row;
    if (row.found?.ipaddr === found.ipaddr && row.found.type === found.type) return row;
    return { ...row, found };
  });
}

/** What to do about a target, where that is more than the table of errors says. */
const fixes: Readonly<Record<string, string>> = {
  unavailable: 'Start the server, or correct ipaddr.',
  not_found: 'Make the share or folder there, or correct base.',
  invalid: 'Correct the target as the message says.',
};

interface Problem {
  readonly code: string;
  readonly message: string;
  readonly fix: string;
}

function problemOf(error: unknown): Problem {
  if (!(error instanceof PluginError)) return { code: 'failed', message: String(error), fix: errorRows.failed.fix };
  return { code: error.code, message: error.message, fix: fixes[error.code] ?? errorRows[error.code].fix };
}

export interface RemoteTargetsDeps {
  readonly store: Store;
  readonly plugins: Plugins;
  /** A target that moves no byte for so many ms has stalled. */
  readonly stallMs: number;
  readonly log: PluginLog;
}

/** Below the time limit of the request, so that the client gets the target's error. */
const answerStallMs = 20_000;
const answerWaits = [500];

export function remoteTargets({ store, plugins, stallMs, log }: RemoteTargetsDeps): RemoteTargets {
  const open = async (row: TargetRow, signal: AbortSignal) => {
    const policy = { stallMs: Math.min(stallMs, answerStallMs), waits: answerWaits, signal, log };
    const { target, type, found } = await openRemote(plugins, row, '', policy);
    if (found) await keepFound(store, row.id, found);
    return { type, target };
  };
  return {
    async ping(row, signal) {
      await using target = (await open(row, signal)).target;
      return (await target.stat(''))?.folder === true;
    },
    async dirs(row, path, signal) {
      await using target = (await open(row, signal)).target;
      if (!(await target.stat(path))?.folder) throw new PluginError('not_found', `there is no folder /${path} on target ${row.spec.name}`);
      const folders: { name: string; write: boolean }[] = [];
      for await (const { name, folder } of target.list(path)) if (folder) folders.push({ name, write: true });
      return folders;
    },
    async check(row, signal) {
      const began = performance.now();
      try {
        const { target, type } = await open(row, signal);
        await using _opened = target;
        return { alive: true, type, ...(await checkTarget(target, signal, began)) };
      } catch (error) {
        return {
          alive: false,
          ...(row.spec.type !== undefined && { type: row.spec.type }),
          writable: false,
          problems: [problemOf(error)],
        };
      }
    },
  };
}

/** Writes a probe file, reads it back and removes it. */
async function checkTarget(target: Target, signal: AbortSignal, began: number): Promise<object> {
  const problems: Problem[] = [];
  let latency = Math.round(performance.now() - began);
  try {
    const before = performance.now();
    if (!(await target.stat(''))?.folder) throw new PluginError('not_found', 'the folder that base names is not there');
    latency = Math.round(performance.now() - before);
    await probe(target, signal);
  } catch (error) {
    problems.push(problemOf(error));
  }
  const space = await target.space().catch(() => undefined);
  return {
    ...(target.server !== undefined && { server: target.server }),
    latency_ms: latency,
    writable: problems.length === 0,
    ...(space && { free_bytes: space.free }),
    atomic: target.supports.atomicReplace,
    problems,
  };
}

async function probe(target: Target, signal: AbortSignal): Promise<void> {
  const name = `container-backup-probe-${randomBytes(6).toString('hex')}`;
  const bytes = randomBytes(64 << 10);
  await target.put(name, Readable.from([bytes]), { signal });
  try {
    const back: Uint8Array[] = [];
    for await (const chunk of await target.get(name, { signal })) back.push(chunk);
    if (!Buffer.concat(back).equals(bytes)) throw new PluginError('damaged', 'what was written does not read back the same');
  } finally {
    await target.remove(name);
  }
}
