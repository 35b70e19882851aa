/** Backup jobs. */
import { isDeepStrictEqual } from 'node:util';
import type { BackupRow, BackupSpec } from '../../jobs/job.js';
import { settleWithin } from '../../primitives/deadline.js';
import type { Mutex } from '../../primitives/mutex.js';
import { parse } from '../../schemas.js';
import type { ApiDeps } from '../deps.js';
import { ApiError, invalidField } from '../errors.js';
import { listJobs } from '../lists.js';
import { checkLocation, checkType, locationOf } from '../locations.js';
import { partKeys } from '../query.js';
import { json, type Reply } from '../replies.js';
import { type ApiRequest, type Body, idOf, requireFound, specBody } from '../request.js';
import { listOf, one, type Route, route, rowsOf } from '../route.js';
import { checkMatch, tagOf } from '../values.js';
import { showState } from './state.js';

const answer = one('backup-job', 'backup-job-full');
const rows = rowsOf({
  listBackups: {
    summary: 'List backup jobs',
    access: 'user',
    query: partKeys,
    answer: listOf('backup-job', 'backup-job-full'),
  },
  createBackup: { summary: 'Create a backup job', access: 'admin', body: { schema: 'backup' }, answer },
  runBackup: { summary: 'Run a backup job now', access: 'admin', answer },
  stopBackup: { summary: 'Stop a backup job', access: 'admin', answer },
  confirmEmptied: {
    summary: 'Confirm sources that became empty',
    access: 'admin',
    answer,
  },
  takeOverRecord: { summary: 'Take over the record of another job or appliance', access: 'admin', answer },
  listRuns: { summary: 'List the runs of a backup job on its target', access: 'user', answer: listOf('run') },
  getRun: { summary: 'Get the manifest of a run', access: 'user', answer: one('manifest') },
  getBackup: { summary: 'Get a backup job', access: 'user', answer },
  modifyBackup: {
    summary: 'Modify a backup job',
    access: 'admin',
    body: { schema: 'backup', isPart: true },
    matches: true,
    answer,
  },
  deleteBackup: { summary: 'Delete a backup job', access: 'admin', query: ['purge'], answer: one('deleted') },
});

/** Tells whether a container exists. Asks each engine once, for any number of jobs. */
function containerFinder(deps: ApiDeps): (spec: BackupSpec) => Promise<boolean> {
  const lists = new Map<string, Promise<ReadonlySet<string>>>();
  const idsOf = async (type: string) => {
    // An engine that does not answer counts as one without containers.
    const list = await deps.listContainers(type).catch(() => []);
    return new Set(list.filter((one) => one.type === type).map(({ id }) => id));
  };
  return async ({ type, container_id }) => {
    const list = lists.get(type) ?? idsOf(type);
    lists.set(type, list);
    return (await list).has(container_id);
  };
}

async function showJob(deps: ApiDeps, row: BackupRow, full: boolean, isThere = containerFinder(deps)): Promise<object> {
  const extra = full ? { container_found: await isThere(row.spec) } : {};
  return { id: row.id, ...row.spec, state: showState(deps.jobs, 'backup', row, full), ...extra };
}

/** Finds another job with the same record, by whatever path. */
async function twinOf(deps: ApiDeps, { job_name, dest }: BackupSpec, old?: BackupRow): Promise<BackupRow | undefined> {
  const namesakes = (await deps.jobs.backup.listNamed(job_name)).filter((b) => b.id !== old?.id);
  if (namesakes.length === 0) return undefined;
  const location = await locationOf(deps, dest);
  for (const one of namesakes) if ((await locationOf(deps, one.spec.dest)) === location) return one;
  return undefined;
}

/** Checks rules that a schema cannot express. */
async function checkSpec(deps: ApiDeps, value: unknown, old?: BackupRow): Promise<BackupSpec> {
  const raw = parse('backup', value);
  const spec = { ...raw, features: [...new Set(raw.features)] };
  checkType(deps, spec.type, 'runtime');
  await checkLocation(deps, spec.dest, 'dest');
  // An unchanged one-shot may have run already: a client can send back the object of a GET.
  const planned = old === undefined || !isDeepStrictEqual(old.spec.at, spec.at);
  if (planned && spec.at.repeat === 'oneshot' && (spec.at.start ?? 0) * 1000 <= Date.now()) {
    throw invalidField('/at/start', 'is in the past; give epoch seconds to come');
  }
  const twin = await twinOf(deps, spec, old);
  if (twin !== undefined)
    throw new ApiError('conflict', `backup ${twin.id} keeps ${twin.spec.job_name} at this destination already; take another job_name`);
  return spec;
}

async function backup(deps: ApiDeps, request: ApiRequest): Promise<BackupRow> {
  const id = idOf(request);
  return requireFound(await deps.jobs.backup.get(id), `backup ${id}`);
}

async function change(deps: ApiDeps, request: ApiRequest, body: Body): Promise<BackupRow> {
  // ?view=full shows this key, so a client may send it back.
  const { container_found: _found, ...keys } = body;
  const old = await backup(deps, request);
  checkMatch(request, tagOf(old.id, old.spec));
  return deps.jobs.backup.update(old.id, await checkSpec(deps, { ...old.spec, ...keys }, old));
}

async function remove(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const { id, spec } = await backup(deps, request);
  if (request.query.purge === undefined) await deps.jobs.backup.delete(id);
  else
    await settleWithin(
      purgeMs,
      deps.jobs.purge(id),
      () => new ApiError('unavailable', `the backups of ${id} (${spec.job_name}) are still being deleted; ask again`),
    );
  return json([id]);
}

/** How long a client waits for the purge of a large record before it must ask again. */
const purgeMs = 30_000;

function list(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const isThere = containerFinder(deps);
  return listJobs(request, deps.jobs.backup, (b) => showJob(deps, b, request.full, isThere));
}

async function manifest(deps: ApiDeps, request: ApiRequest): Promise<Reply> {
  const run = request.params.run ?? '';
  return json(requireFound(await deps.backupManifest((await backup(deps, request)).spec, run, request.gone), `run ${run}`));
}

/** @param changes serialises changes of the links between jobs and targets */
export function backupRoutes(deps: ApiDeps, changes: Mutex): Route[] {
  const jobs = deps.jobs.backup;
  const tell = async (request: ApiRequest, row: BackupRow) =>
    json(await showJob(deps, row, request.full), { headers: { ETag: tagOf(row.id, row.spec) } });
  const create = async (request: ApiRequest) => {
    const body = await specBody(request);
    return changes.run(async () => tell(request, await jobs.create(await checkSpec(deps, body))));
  };
  const modify = async (request: ApiRequest) => {
    const body = await specBody(request);
    return changes.run(async () => tell(request, await change(deps, request, body)));
  };
  // As captured: answers the job as it was before the run. `?view=full` shows it as it is now.
  const run = async (request: ApiRequest) => {
    const before = await backup(deps, request);
    const now = await jobs.run(before.id);
    return tell(request, request.full ? now : before);
  };
  const stop = async (request: ApiRequest) => tell(request, await jobs.stop((await backup(deps, request)).id));
  const confirm = async (request: ApiRequest) => tell(request, await deps.jobs.confirm((await backup(deps, request)).id));
  const takeOver = async (request: ApiRequest) => tell(request, await deps.jobs.takeOver((await backup(deps, request)).id));
  const runs = async (request: ApiRequest) => json(await deps.backupRuns((await backup(deps, request)).spec, request.gone));
  return [
    route('get', '/backup/', rows.listBackups, (c) => list(deps, c)),
    route('post', '/backup/', rows.createBackup, create),
    route('put', '/backup/:id/run', rows.runBackup, run),
    route('put', '/backup/:id/stop', rows.stopBackup, stop),
    route('put', '/backup/:id/confirm', rows.confirmEmptied, confirm),
    route('put', '/backup/:id/take-over', rows.takeOverRecord, takeOver),
    route('get', '/backup/:id/runs', rows.listRuns, runs),
    route('get', '/backup/:id/runs/:run', rows.getRun, (c) => manifest(deps, c)),
    route('get', '/backup/:id', rows.getBackup, async (c) => tell(c, await backup(deps, c))),
    route('put', '/backup/:id', rows.modifyBackup, modify),
    route('delete', '/backup/:id', rows.deleteBackup, (c) => remove(deps, c)),
  ];
}
