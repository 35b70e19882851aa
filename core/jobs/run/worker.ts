/** A run's thread: opens the plugins, does the run, says how it ended, and ends by closing its port. */
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdir, rm } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { parentPort, workerData } from 'node:worker_threads';
import { PluginError } from '../../contract/index.js';
import { createLog } from '../../log.js';
import { loadPlugins, type Plugins } from '../../plugins/index.js';
import { Bandwidth } from '../../policy/index.js';
import { openVault } from '../../secrets.js';
import { openSealer } from '../../targets/consent.js';
import { type LocationOpening, openLocation } from '../../targets/open.js';
import { lockRecord } from '../../targets/record-lock.js';
import { RecordOwned } from '../../targets/record-owner.js';
import { parseRemote } from '../../targets/remote.js';
import {
  type BackupSpec,
  type Lease,
  type RestoreSpec,
  taskPurpose,
  type WorkerMessage,
  type WorkerRequest,
  type WorkerTask,
} from '../job.js';
import { backupRun } from './backup.js';
import { boundBuffers } from './collect-buffers.js';
import { holdLease } from './lease.js';
import { restoreRun } from './restore.js';

type Result = Extract<WorkerMessage, { type: 'result' }>;

if (!parentPort) throw new Error('the worker is started by the scheduler');
const port = parentPort;
const post = (message: WorkerMessage) => port.postMessage(message);
const stop = new AbortController();
const bandwidth = new Bandwidth();
const given: unknown = workerData.order;

const isOrder = (value: unknown): value is WorkerTask =>
  typeof value === 'object' && value !== null && 'kind' in value && 'environment' in value;
const log = createLog(isOrder(given) ? given.environment.logLevel : 'info');
const isRequest = (value: unknown): value is WorkerRequest => typeof value === 'object' && value !== null && 'type' in value;

const wake = new EventTarget();
port.on('message', (value: unknown) => {
  if (!isRequest(value)) return;
  if (value.type === 'stop') stop.abort();
  else if (value.type === 'bandwidth') bandwidth.set(value.bytesPerSecond);
  else wake.dispatchEvent(new Event(leaseEvent(value)));
});
const leaseEvent = ({ runtime, container, until }: Lease) => `${runtime}/${container}/${until}`;
const leaseClient = { post, awaitKept: async (lease: Lease) => void (await once(wake, leaseEvent(lease), { signal: stop.signal })) };

/** What opening the order's place takes. @throws PluginError denied when it was sealed for another appliance */
async function placeOpening({ remote, environment }: WorkerTask): Promise<LocationOpening> {
  const keepFound: LocationOpening['keepFound'] = (target, what) => post({ type: 'found', target, found: what });
  if (remote === undefined) return { signal: stop.signal, log };
  bandwidth.set(remote.bandwidth);
  const vault = await openVault(environment.stateFolder);
  const record = parseRemote(vault.unseal(remote.sealed, taskPurpose(remote.id)));
  const { connections } = remote;
  return { signal: stop.signal, log, remote: record, bandwidth, keepFound: keepFound, ...(connections !== undefined && { connections }) };
}

/** Not `recursive`: Node tells a full disk as ENOENT then. */
function unlessThere(error: unknown): void {
  if (!(error instanceof Error && 'code' in error && error.code === 'EEXIST')) throw error;
}

async function backup(order: WorkerTask, spec: BackupSpec, plugins: Plugins): Promise<Result> {
  const opening = { signal: stop.signal, log };
  const { environment: env, id, newBase = false, confirmed = [], rivals = [], takeOver } = order;
  await using runtime = await plugins.openRuntime(spec.type, env.runtimes[spec.type] ?? {}, opening);
  await using target = await openLocation(plugins, env, spec.dest, await placeOpening(order));
  const workFolder = join(env.stateFolder, 'work', `backup-${id}-${randomBytes(4).toString('hex')}`);
  await mkdir(dirname(workFolder), { mode: 0o700 }).catch(unlessThere);
  await mkdir(workFolder, { mode: 0o700 });
  try {
    const lease = () => holdLease(leaseClient, spec.type, spec.container_id);
    const progress = (value: number) => post({ type: 'progress', progress: value });
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
      verifyMs: env.verifyMs,
      confirmed,
      claim: { appliance, job: id, rivals, ...(takeOver && { takeOver }), log },
      signal,
      log,
      progress,
      lease,
    });
    return { type: 'result', result: 0, ...done };
  } finally {
    await rm(workFolder, { recursive: true, force: true });
  }
}

async function restore(order: WorkerTask, spec: RestoreSpec, plugins: Plugins): Promise<Result> {
  const opening = { signal: stop.signal, log };
  const { environment: env } = order;
  await using runtime = await plugins.openRuntime(spec.type, env.runtimes[spec.type] ?? {}, opening);
  await using target = await openLocation(plugins, env, spec.src, await placeOpening(order));
  const progress = (value: number) => post({ type: 'progress', progress: value });
  const consent = { runtime, sealer: await openSealer(env.stateFolder), shares: Object.values(env.shares) };
  const done = await restoreRun({ spec, target, undoMs: env.undoMs, signal: stop.signal, log, progress, ...consent });
  return { type: 'result', result: 0, ...done };
}

async function outcome(order: WorkerTask): Promise<Result> {
  const plugins = await loadPlugins(order.environment.pluginFolders, order.environment.stateFolder, { known: true });
  if (order.backup) return backup(order, order.backup, plugins);
  if (order.restore) return restore(order, order.restore, plugins);
  throw new PluginError('invalid', 'the order holds no job');
}

/** How a run that threw ended; a stop by the user is no failure. */
function failure(error: unknown): Result {
  if (stop.signal.aborted) return { type: 'result', result: -2 };
  const isFull = error instanceof Error && 'code' in error && (error.code === 'ENOSPC' || error.code === 'EDQUOT');
  const code = error instanceof PluginError ? error.code : isFull ? 'no_space' : 'failed'; // of the work folder
  const message = error instanceof Error ? error.message : String(error);
  if (!(error instanceof PluginError)) log('error', 'a run failed', { error: error instanceof Error ? (error.stack ?? message) : message });
  return { type: 'result', result: -1, error: { code, message }, ...(error instanceof RecordOwned && { owner: error.owner }) };
}

boundBuffers();
const result = isOrder(given) ? await outcome(given).catch(failure) : failure(new PluginError('invalid', 'the worker got no order'));
post(result);
port.close();
