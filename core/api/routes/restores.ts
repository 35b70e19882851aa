/** Restore jobs. */
import type { RestoreRow, RestoreSpec } from '../../jobs/job.js';
import type { Mutex } from '../../primitives/mutex.js';
import { parse } from '../../schemas.js';
import type { ApiDeps } from '../deps.js';
import { listJobs } from '../lists.js';
import { checkLocation, checkType } from '../locations.js';
import { partKeys } from '../query.js';
import { json } from '../replies.js';
import { type ApiRequest, idOf, requireFound, specBody } from '../request.js';
import { listOf, one, type Route, route, rowsOf } from '../route.js';
import { tagOf } from '../values.js';
import { showState } from './state.js';

const answer = one('restore-job', 'restore-job-full');
const rows = rowsOf({
  listRestores: {
    summary: 'List restore jobs',
    access: 'user',
    query: partKeys,
    answer: listOf('restore-job', 'restore-job-full'),
  },
  createRestore: { summary: 'Create a restore job', access: 'admin', body: { schema: 'restore' }, answer },
  planRestore: {
    summary: 'Preview a restore',
    access: 'admin',
    body: { schema: 'restore-plan' },
    answer: one('restore-preview'),
  },
  runRestore: { summary: 'Run a restore job now', access: 'admin', answer },
  stopRestore: { summary: 'Stop a restore job', access: 'admin', answer },
  undoRestore: { summary: 'Undo a restore', access: 'admin', answer },
  dropUndo: { summary: 'Delete what a restore replaced', access: 'admin', answer },
  getRestore: { summary: 'Get a restore job', access: 'user', answer },
  deleteRestore: { summary: 'Delete a restore job', access: 'admin', answer: one('deleted') },
});

/** The captured answers have no job_name. */
function showJob(deps: ApiDeps, row: RestoreRow, full: boolean): object {
  const { job_name, ...spec } = row.spec;
  return { id: row.id, ...spec, ...(full ? { job_name } : {}), state: showState(deps.jobs, 'restore', row, full) };
}

async function checkSpec(deps: ApiDeps, schema: 'restore' | 'restore-plan', value: unknown): Promise<RestoreSpec> {
  const spec = parse(schema, value);
  checkType(deps, spec.type, 'runtime');
  await checkLocation(deps, spec.src, 'src');
  return spec;
}

async function restore(deps: ApiDeps, request: ApiRequest): Promise<RestoreRow> {
  const id = idOf(request);
  return requireFound(await deps.jobs.restore.get(id), `restore ${id}`);
}

/** @param changes serialises changes of the links between jobs and targets */
export function restoreRoutes(deps: ApiDeps, changes: Mutex): Route[] {
  const jobs = deps.jobs.restore;
  const tell = (request: ApiRequest, row: RestoreRow) =>
    json(showJob(deps, row, request.full), { headers: { ETag: tagOf(row.id, row.spec) } });
  const create = async (request: ApiRequest) => {
    const body = await specBody(request);
    return changes.run(async () => tell(request, await jobs.create(await checkSpec(deps, 'restore', body))));
  };
  const plan = async (request: ApiRequest) =>
    json(await deps.restorePlan(await checkSpec(deps, 'restore-plan', await specBody(request)), request.gone));
  const list = (request: ApiRequest) => listJobs(request, jobs, (r) => showJob(deps, r, request.full));
  const run = async (request: ApiRequest) => tell(request, await jobs.run((await restore(deps, request)).id));
  const stop = async (request: ApiRequest) => tell(request, await jobs.stop((await restore(deps, request)).id));
  const undo = async (request: ApiRequest, what: 'bring-back' | 'drop') =>
    tell(request, await deps.jobs.undo((await restore(deps, request)).id, what));
  const remove = async (request: ApiRequest) => {
    const { id, state } = await restore(deps, request);
    const isActive = state.code === 'waiting' || state.code === 'running'; // delete refuses an active job
    if (state.undo && !isActive) await deps.jobs.undo(id, 'drop'); // without the job, nobody could name the undo
    await jobs.delete(id);
    return json([id]);
  };
  return [
    route('get', '/restore/', rows.listRestores, list),
    route('post', '/restore/', rows.createRestore, create),
    route('post', '/restore/plan', rows.planRestore, plan),
    route('put', '/restore/:id/run', rows.runRestore, run),
    route('put', '/restore/:id/stop', rows.stopRestore, stop),
    route('put', '/restore/:id/undo', rows.undoRestore, (c) => undo(c, 'bring-back')),
    route('delete', '/restore/:id/undo', rows.dropUndo, (c) => undo(c, 'drop')),
    route('get', '/restore/:id', rows.getRestore, async (c) => tell(c, await restore(deps, c))),
    route('delete', '/restore/:id', rows.deleteRestore, remove),
  ];
}
