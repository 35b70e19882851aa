/** Backup jobs. */
import { isDeepStrictEqual } from 'node:util';
import type { BackupRecord, BackupSpec } from '../../jobs/job.js';
import { parsed } from '../../schemas.js';
import type { ApiDeps } from '../deps.js';
import { ApiError, wrong } from '../errors.js';
import { listed } from '../lists.js';
import { checkPlace, checkType, locationOf } from '../places.js';
import { type Body, type Call, found, idOf, type Route, route, signedIn, specBody } from '../request.js';
import { stateShown } from '../state.js';
import { checkMatch, type Serial, tagOf } from '../values.js';

/** Whether a container is there; asks each engine once, whatever the number of jobs. */
function containerFinder(deps: ApiDeps): (spec: BackupSpec) => Promise<boolean> {
  const lists = new Map<string, Promise<ReadonlySet<string>>>();
  const idsOf = async (type: string) => {
    // An engine that doesn't answer holds no container for now.
    const list = await deps.listContainers(type).catch(() => []);
    return new Set(list.filter((one) => one.type === type).map(({ id }) => id));
  };
  return async ({ type, container_id }) => {
    const list = lists.get(type) ?? idsOf(type);
    lists.set(type, list);
    return (await list).has(container_id);
  };
}

async function shown(deps: ApiDeps, record: BackupRecord, full: boolean, isThere = containerFinder(deps)): Promise<object> {
  const extra = full ? { container_found: await isThere(record.spec) } : {};
  return { id: record.id, ...record.spec, state: stateShown(deps.jobs, 'backup', record, full), ...extra };
}

/** Another job that keeps the same record, by whatever path. */
async function twinOf(deps: ApiDeps, { job_name, dest }: BackupSpec, old?: BackupRecord): Promise<BackupRecord | undefined> {
  const namesakes = (await deps.jobs.backups.named(job_name)).filter((b) => b.id !== old?.id);
  if (namesakes.length === 0) return undefined;
  const location = await locationOf(deps, dest);
  for (const one of namesakes) if ((await locationOf(deps, one.spec.dest)) === location) return one;
  return undefined;
}

/** Rules that a schema can't tell. */
async function checkedSpec(deps: ApiDeps, value: unknown, old?: BackupRecord): Promise<BackupSpec> {
  const raw = parsed('backup', value);
  const spec = { ...raw, features: [...new Set(raw.features)] };
  checkType(deps, spec.type, 'runtime');
  await checkPlace(deps, spec.dest, 'dest');
  // An unchanged one may have run already: an object got by GET can be sent back.
  const planned = old === undefined || !isDeepStrictEqual(old.spec.at, spec.at);
  if (planned && spec.at.repeat === 'oneshot' && (spec.at.start ?? 0) * 1000 <= Date.now()) {
    throw wrong('/at/start', 'is in the past; give epoch seconds to come');
  }
  const twin = await twinOf(deps, spec, old);
  if (twin !== undefined)
    throw new ApiError('conflict', `backup ${twin.id} keeps ${twin.spec.job_name} at this destination already; take another job_name`);
  return spec;
}

async function backup(deps: ApiDeps, call: Call): Promise<BackupRecord> {
  const id = idOf(call);
  return found(await deps.jobs.backups.get(id), `backup ${id}`);
}

async function change(deps: ApiDeps, call: Call, body: Body): Promise<BackupRecord> {
  // Shown by ?view=full, so it may come back with the object.
  const { container_found: _found, ...keys } = body;
  const old = await backup(deps, call);
  checkMatch(call, tagOf(old.id, old.spec));
  return deps.jobs.backups.update(old.id, await checkedSpec(deps, { ...old.spec, ...keys }, old));
}

async function remove(deps: ApiDeps, call: Call): Promise<number[]> {
  const { id, spec } = await backup(deps, call);
  const purge = call.query.get('purge') === 'true';
  if (purge && !signedIn(call).isAdmin) throw new ApiError('forbidden', 'only an admin may delete backups');
  if (!purge) await deps.jobs.backups.delete(id);
  else await answeredIn(purgeMs, deps.jobs.purge(id), `the backups of ${id} (${spec.job_name}) are still being deleted; ask again`);
  return [id];
}

/** A client waits so long for a large record; then it has to ask again. */
const purgeMs = 30_000;

async function answeredIn<T>(ms: number, work: Promise<T>, late: string): Promise<T> {
  let timer: NodeJS.Timeout | undefined;
  const limit = new Promise<never>((_, reject) => {
    timer = setTimeout(() => reject(new ApiError('unavailable', late)), ms);
  });
  return Promise.race([work, limit]).finally(() => clearTimeout(timer));
}

function list(deps: ApiDeps, call: Call): Promise<unknown> {
  const isThere = containerFinder(deps);
  return listed(call, deps.jobs.backups, (b) => shown(deps, b, call.full, isThere));
}

async function manifest(deps: ApiDeps, call: Call): Promise<object> {
  const run = call.params.run ?? '';
  return found(await deps.backupManifest((await backup(deps, call)).spec, run, call.gone), `run ${run}`);
}

/** @param links what changes or relies on which jobs have which target */
export function backupRoutes(deps: ApiDeps, links: Serial): Route[] {
  const jobs = deps.jobs.backups;
  const tell = (call: Call, record: BackupRecord) => {
    call.etag(tagOf(record.id, record.spec));
    return shown(deps, record, call.full);
  };
  const create = async (call: Call) => {
    const body = await specBody(call);
    return links(async () => tell(call, await jobs.create(await checkedSpec(deps, body))));
  };
  const modify = async (call: Call) => {
    const body = await specBody(call);
    return links(async () => tell(call, await change(deps, call, body)));
  };
  // As captured: the job as it was when it was told to run. `?view=full` shows it as it is now.
  const run = async (call: Call) => {
    const before = await backup(deps, call);
    const now = await jobs.run(before.id);
    return tell(call, call.full ? now : before);
  };
  const stop = async (call: Call) => tell(call, await jobs.stop((await backup(deps, call)).id));
  const confirm = async (call: Call) => tell(call, await deps.jobs.confirm((await backup(deps, call)).id));
  const takeOver = async (call: Call) => tell(call, await deps.jobs.takeOver((await backup(deps, call)).id));
  const runs = async (call: Call) => deps.backupRuns((await backup(deps, call)).spec, call.gone);
  return [
    route('get', '/backup/', 'user', 'List backup jobs', (c) => list(deps, c), { parts: true }),
    route('post', '/backup/', 'admin', 'Create a backup job', create, 'backup'),
    route('put', '/backup/:id/run', 'admin', 'Run it now', run),
    route('put', '/backup/:id/stop', 'admin', 'Stop it now', stop),
    route('put', '/backup/:id/confirm', 'admin', 'What its last run found empty is to be empty: retention goes on', confirm),
    route('put', '/backup/:id/take-over', 'admin', "Its record is another's: the next run goes on in it", takeOver),
    route('get', '/backup/:id/runs', 'user', 'Its runs on the target', runs),
    route('get', '/backup/:id/runs/:run', 'user', 'The manifest of a run', (c) => manifest(deps, c)),
    route('get', '/backup/:id', 'user', 'Get a backup job', async (c) => tell(c, await backup(deps, c))),
    route('put', '/backup/:id', 'admin', 'Modify a backup job', modify),
    route('delete', '/backup/:id', 'admin', 'Delete a backup job', (c) => remove(deps, c)),
  ];
}
