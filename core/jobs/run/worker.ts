/** The thread of a run: loads plugins, runs the task, posts the result, and ends by closing its port. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { PluginError } from '../../contract/index.js';
import { createLog } from '../../log.js';
import { loadPlugins, type Plugins } from '../../plugins/index.js';
import { Bandwidth } from '../../policy/index.js';
import { hasCode, isFields } from '../../primitives/guards.js';
import { ServiceError } from '../../primitives/service-error.js';
import { parseOwn } from '../../schemas.js';
import { openVault } from '../../secrets.js';
import { openSealer } from '../../targets/consent.js';
import { type LocationOpening, openLocation } from '../../targets/open.js';
import { lockRecord } from '../../targets/record-lock.js';
import { RecordOwned } from '../../targets/record-owner.js';
import { parseRemote } from '../../targets/remote.js';
import { type Lease, taskPurpose, type WorkerMessage, type WorkerRequest, type WorkerTask } from '../job.js';
import { isKind, kinds } from '../kinds.js';
import { backupRun } from './backup.js';
import { boundBuffers } from './collect-buffers.js';
import { holdLease } from './lease.js';
import { restoreRun } from './restore.js';

type Result = Extract<WorkerMessage, { type: 'result' }>;
type BackupTask = Extract<WorkerTask, { kind: 'backup' }>;
type RestoreTask = Extract<WorkerTask, { kind: 'restore' }>;

if (!parentPort) throw new Error('the worker is started by the scheduler');
const port = parentPort;
const post = (message: WorkerMessage) => port.postMessage(message);
const stop = new AbortController();
const bandwidth = new Bandwidth();

/** @throws PluginError invalid, ValidationError: it is no task of this version */
function parseTask(value: unknown): WorkerTask {
  const kind = isFields(value) ? value.kind : undefined;
  if (!isKind(kind)) throw new PluginError('invalid', 'the worker got a task of no known kind');
  return parseOwn(kinds[kind].task, value);
}

const task = parseTask(workerData.task); // an error here ends the thread, and the launcher reports it
const log = createLog(task.environment.logLevel);

const wake = new EventTarget();
port.on('message', (value: unknown) => {
  const request: WorkerRequest = parseOwn('worker#/$defs/request', value);
  if (request.type === 'stop') stop.abort();
  else if (request.type === 'bandwidth') bandwidth.set(request.bytesPerSecond);
  else wake.dispatchEvent(new Event(leaseEvent(request)));
});
const leaseEvent = ({ runtime, container, until }: Lease) => `${runtime}/${container}/${until}`;
const leaseClient = { post, awaitKept: async (lease: Lease) => void (await once(wake, leaseEvent(lease), { signal: stop.signal })) };

/** Unseals the target for opening the task's location. @throws PluginError denied: it was sealed for another appliance */
async function locationOpening({ remote, environment }: WorkerTask): Promise<LocationOpening> {
  const keepFound: LocationOpening['keepFound'] = (target, what) => post({ type: 'found', target, found: what });
  if (remote === undefined) return { signal: stop.signal, log };
  bandwidth.set(remote.bandwidth);
  const vault = await openVault(environment.stateFolder);
  const row = parseRemote(vault.unseal(remote.sealed, taskPurpose(remote.id)));
  const { connections } = remote;
  return { signal: stop.signal, log, remote: row, bandwidth, keepFound, ...(connections !== undefined && { connections }) };
}

/** Instead of mkdir's `recursive`, which reports a full disk as ENOENT. */
function unlessThere(error: unknown): void {
  if (!hasCode(error, 'EEXIST')) throw error;
}

async function inWorkFolder<T>(name: string, work: (folder: string) => Promise<T>): Promise<T> {
  const folder = join(task.environment.stateFolder, 'work', `${name}-${randomBytes(4).toString('hex')}`);
  await mkdir(dirname(folder), { mode: 0o700 }).catch(unlessThere);
  await mkdir(folder, { mode: 0o700 });
  try {
    return await work(folder);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}

async function backup(task: BackupTask, plugins: Plugins): Promise<Result> {
  const opening = { signal: stop.signal, log };
  const { spec, environment: env, id, newBase = false, confirmed = [], rivals = [], takeOver } = task;
  await using runtime = await plugins.openRuntime(spec.type, env.runtimes[spec.type] ?? {}, opening);
  await using target = await openLocation(plugins, env, spec.dest, await locationOpening(task));
  return await inWorkFolder(`backup-${id}`, async (workFolder) => {
    const lease = () => holdLease(leaseClient, spec.type, spec.container_id);
    const progress = (value: number) => post({ type: 'progress', progress: value });
    const startOver = (attempt: number, at: number, reason: string) => post({ type: 'retry', attempt, at, reason });
    const { signal } = stop;
    const sealer = await openSealer(env.stateFolder);
    const { appliance } = sealer;
    const lock = (record: string) => lockRecord(target.aside, record, { appliance, job: id, signal, log });
    const done = await backupRun({
      id,
      spec,
      runtime,
      target,
      lock,
      workFolder,
      sealer,
      newBase,
      newBaseRatio: env.newBaseRatio,
      bigFileBytes: env.bigFileBytes,
      verifyMs: env.verifyMs,
      confirmed,
      claim: { appliance, job: id, rivals, ...(takeOver && { takeOver }), log },
      signal,
      log,
      progress,
      startOver,
      pauseExpected: (ms) => post({ type: 'pause-expected', ms }),
      lease,
    });
    return { type: 'result', result: 0, ...done };
  });
}

async function restore(task: RestoreTask, plugins: Plugins): Promise<Result> {
  const opening = { signal: stop.signal, log };
  const { spec, environment: env } = task;
  await using runtime = await plugins.openRuntime(spec.type, env.runtimes[spec.type] ?? {}, opening);
  await using target = await openLocation(plugins, env, spec.src, await locationOpening(task));
  const progress = (value: number) => post({ type: 'progress', progress: value });
  const consent = { runtime, sealer: await openSealer(env.stateFolder), shares: Object.values(env.shares) };
  const done = await inWorkFolder('restore', (workFolder) =>
    restoreRun({ spec, target, undoMs: env.undoMs, workFolder, signal: stop.signal, log, progress, ...consent }),
  );
  return { type: 'result', result: 0, ...done };
}

async function run(): Promise<Result> {
  const plugins = await loadPlugins(task.environment.pluginFolders, task.environment.stateFolder, { known: true });
  switch (task.kind) {
    case 'backup':
      return backup(task, plugins);
    case 'restore':
      return restore(task, plugins);
  }
}

/** The result of a run that threw. A stop by the user is no failure. */
function failure(error: unknown): Result {
  if (stop.signal.aborted) return { type: 'result', result: -2 };
  const isFull = hasCode(error, 'ENOSPC', 'EDQUOT');
  const isCoded = error instanceof PluginError || error instanceof ServiceError;
  const code = isCoded ? error.code : isFull ? 'no_space' : 'failed'; // of the work folder
  const message = error instanceof Error ? error.message : String(error);
  if (!isCoded) log('error', 'a run failed', { error: error instanceof Error ? (error.stack ?? message) : message });
  const retryable = isCoded && error.retryable;
  return { type: 'result', result: -1, error: { code, message }, retryable, ...(error instanceof RecordOwned && { owner: error.owner }) };
}

boundBuffers();
post(await run().catch(failure));
port.close();
